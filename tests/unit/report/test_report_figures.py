"""Figures are the same bytes for the same numbers, and hostile labels stay labels."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ElementTree

import pytest

from penname.report import figures


def draw_all():
    cell = {"value": 0.4, "ci95": (0.3, 0.5), "reference": 0.6}
    metrics = [
        {"label": "A & B <b>", "direction": "higher", "values": {"real": cell, "with_dp": cell | {"reference": 0.7}, "base": cell}},
        {"label": "C", "direction": "none", "values": {"no_dp": cell | {"ci95": None, "reference": None}}},
    ]
    return {
        "metrics": figures.draw_metric_family(metrics),
        "lengths": figures.draw_review_lengths({"real": [1, 5, 900], "no_dp": [0], "with_dp": []}),
        "ratings": figures.draw_rating_shares({"real": {5: 3}, "no_dp": {1: 1}, "with_dp": {4: 2, 5: 2}}),
        "categories": figures.draw_category_shares({"real": {"<script>": 2, "$x$ \\frac": 1}, "with_dp": {"電話": 4}}),
        "loss": figures.draw_training_loss({"with_dp": [(1, 3.0), (2, 2.5)], "no_dp": [(1, 3.0)]}),
        "gradients": figures.draw_gradients([{"step": 1, "clipped_frac": None, "sum_norm": 2.0, "update_norm": 3.0}]),
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folders = []
    for _ in range(2):
        folder = tmp_path_factory.mktemp("figures")
        for name, figure in draw_all().items():
            figures.save_figure(figure, folder, name)
        folders.append(folder)
    return folders


def test_same_numbers_give_the_same_bytes(saved):
    names = sorted(path.name for path in saved[0].iterdir())
    assert len(names) == 12
    for name in names:
        assert (saved[0] / name).read_bytes() == (saved[1] / name).read_bytes(), name


def test_files_are_small_well_formed_and_undated(saved):
    for path in saved[0].glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        ElementTree.fromstring(text)
        assert "<dc:date>" not in text
        assert len(text) < 60_000
    assert all(path.stat().st_size < 80_000 for path in saved[0].glob("*.png"))


def test_labels_from_the_data_are_escaped_and_not_mathematics(saved):
    text = (saved[0] / "categories.svg").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    assert "$x$ \\frac" in text


def test_conditions_differ_in_colour_marker_line_and_hatch():
    styles = [*figures.CONDITIONS.values(), figures.OTHER_STYLE]
    for attribute in ("colour", "marker", "line", "hatch"):
        assert len({getattr(style, attribute) for style in styles}) == len(styles)


def test_inline_svg_has_ids_of_its_own_and_follows_the_page(saved):
    svg = (saved[0] / "loss.svg").read_text(encoding="utf-8")
    inline = figures.inline_svg(svg, "loss", 'a "quoted" <description>')
    root = ElementTree.fromstring(inline)
    assert root.tag == "svg"
    assert root.get("aria-label") == 'a "quoted" <description>'
    assert "viewBox" in root.attrib
    assert "width" not in root.attrib
    ids = re.findall(r'\bid="([^"]+)"', inline)
    assert ids
    assert all(name.startswith("loss-") for name in ids)
    used = re.findall(r'href="#([^"]+)"', inline) + re.findall(r"url\(#([^)]+)\)", inline)
    assert used
    assert set(used) <= set(ids)
    assert "var(--with-dp)" in inline
    assert "currentColor" in inline
    assert figures.INK not in inline
    assert "metadata" not in inline


def test_rare_categories_are_pooled_and_shares_still_sum_to_one():
    counts = {"real": {f"c{num:02}": 30 - num for num in range(20)}}
    names, shares = figures.pool_category_shares(counts)
    assert len(names) == figures.MAX_CATEGORIES
    assert names[0] == "c00"
    assert names[-1] == "other (9)"
    assert sum(shares["real"]) == pytest.approx(1.0)
    assert shares["real"][-1] == pytest.approx(sum(30 - num for num in range(11, 20)) / sum(counts["real"].values()))


def test_length_bins_hold_every_length_once():
    edges = figures._length_bins(5000)
    for length in range(1, 5001):
        assert sum(low <= length < high for low, high in itertools.pairwise(edges)) == 1
