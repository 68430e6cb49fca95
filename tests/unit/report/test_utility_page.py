"""The figures of utility: which there are, what their sentences say of the numbers, and that words of the data stay words."""

import json

import pytest

from penname.errors import RunDirError
from penname.report.figures import inline_svg, save_figure
from penname.report.utility_page import plan_utility_figures, read_figure_data
from penname.run_dir import ARTEFACTS, RunDir
from penname.schemas import MetricResult

HOSTILE = "<script>alert('$x$')</script>\u202e"


def result(name, arm, value):
    interval = (max(0.0, value - 0.05), min(1.0, value + 0.05))
    return MetricResult("utility", name, arm, value, interval, 0.8, "higher", "PRIVATE", 128, "source")


@pytest.fixture
def metrics():
    values = {
        "tstr_accuracy_score": {"real": 0.82, "no_dp": 0.71, "with_dp": 0.66},
        "downstream_llm_accuracy_score": {"real": 0.6, "no_dp": 0.55, "with_dp": 0.5, "base": 0.21},
        "majority_accuracy_score": {"real": 0.757},
        "feature_importance_jaccard_score_20": {"real": 0.43, "no_dp": 0.3, "with_dp": 0.2},
    }
    return [result(name, arm, value) for name, by_arm in values.items() for arm, value in by_arm.items()]


@pytest.fixture
def data():
    diagonal = [[10 if true == given else 0 for given in range(5)] for true in range(5)]
    far_off = [[10 if given == 4 else 0 for given in range(5)] for _ in range(4)] + [[0] * 5]
    cell = {"value": 0.7, "ci95": [0.65, 0.75]}
    return {
        "downstream_confusion": {"num_train": 500, "num_test": 50, "num_seeds": {}, "counts": {"real": diagonal, "with_dp": diagonal, "base": far_off}},
        "feature_importance": {
            "features": ["love", HOSTILE],
            "sets": {name: {"shap": [0.2, -0.1], "permutation": [0.1, 0.0]} for name in ("train", "real", "with_dp")},
        },
        "augmentation": {
            "num_added": 128,
            "points": {
                "100": {"num_real": 1000, "arms": {"real": cell, "with_dp": cell}},
                "10": {"num_real": 100, "arms": {"real": cell, "with_dp": {"value": 0.74, "ci95": [0.7, 0.78]}}},
            },
        },
    }


def test_each_figure_says_what_this_run_shows(metrics, data):
    figures = {figure.name: figure for figure in plan_utility_figures(metrics, data)}
    assert list(figures) == ["utility_accuracies", "utility_confusion", "utility_feature_importance", "utility_augmentation"]
    said = figures["utility_accuracies"].caption
    assert "60 % after learning from real reviews" in said
    assert "50 % after learning from synthetic ones with DP" in said
    assert "Untuned: 21 %" in said
    assert "76 %" in said
    assert "Base model is furthest off: 25 % within one star" in figures["utility_confusion"].caption
    assert figures["utility_confusion"].rows[4][1] == "–"
    assert "share 30 % with synthetic ones without DP, 20 % with synthetic ones with DP, and 43 % with other" in figures["utility_feature_importance"].caption
    assert "With 100 real reviews it is right on 70 %" in figures["utility_augmentation"].caption
    assert "synthetic ones with DP +4 points" in figures["utility_augmentation"].caption
    assert [row[0] for row in figures["utility_augmentation"].rows] == ["100", "1,000"]


def test_they_are_drawn_and_hold_no_markup_of_the_data(metrics, data, tmp_path):
    for figure in plan_utility_figures(metrics, data):
        svg = save_figure(figure.draw(), tmp_path, figure.name).read_text(encoding="utf-8")
        assert "<script" not in inline_svg(svg, figure.name, figure.caption)
        assert (tmp_path / f"{figure.name}.png").stat().st_size > 5000
        assert all(len(row) == len(figure.columns) for row in figure.rows)
    assert "\u202e" not in json.dumps([figure.rows for figure in plan_utility_figures(metrics, data)])


def test_what_was_not_measured_is_not_drawn(metrics):
    assert plan_utility_figures([], {}) == []
    only = [metric for metric in metrics if metric.name == "tstr_accuracy_score"]
    (figure,) = plan_utility_figures(only, {})
    assert "Dashed" not in figure.caption
    assert "A classifier tells whether the rating is good" in figure.caption


def test_a_set_of_another_name_is_shown_by_its_name(data):
    (figure,) = plan_utility_figures([result("tstr_accuracy_score", arm, 0.7) for arm in ("real", "theirs")], {})
    assert figure.columns == ["", "Real", "theirs"]


def test_damaged_data_are_one_line(metrics, tmp_path):
    with pytest.raises(RunDirError, match=r"figure_data.json: is damaged"):
        plan_utility_figures(metrics, {"augmentation": {"num_added": 3}})
    run_dir = RunDir(tmp_path)
    assert read_figure_data(run_dir) == {}
    path = tmp_path / ARTEFACTS["figure_data"].path
    path.parent.mkdir()
    path.write_text("[]")
    with pytest.raises(RunDirError, match="is damaged"):
        read_figure_data(run_dir)
