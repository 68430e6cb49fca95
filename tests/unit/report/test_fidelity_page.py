"""The figures of fidelity and of people's judgement: which there are, what their sentences say of the numbers, and that words stay words."""

import pytest

from penname.errors import RunDirError
from penname.report.comparison_wording import describe_family
from penname.report.fidelity_page import plan_fidelity_figures, plan_human_figures
from penname.report.figures import inline_svg, save_figure
from penname.report.metric_tables import MAX_DRAWN, build_metric_tables, family_for_figure
from penname.schemas import MetricResult

HOSTILE = "<script>alert('$x$')</script>\u202e"


@pytest.fixture
def data():
    correlations = [[1.0, 0.2, 0.58], [0.2, 1.0, 0.0], [0.58, 0.0, 1.0]]
    return {
        "nearest_neighbours": {"real": [0.7, 0.8, 0.9], "with_dp": [0.5, 0.6, 0.7], "no_dp": [0.6]},
        "embedding_map": {"real": [[0.1, 0.1], [0.9, 0.9]], "with_dp": [[0.1, 0.12]], "no_dp": [[0.5, 0.5]]},
        "word_shares": {
            "words": ["the", HOSTILE, "case"],
            "test": [60.0, 6.0, 3.0],
            "sets": {"real": [50, 6, 3], "with_dp": [90, 0, 1], "no_dp": [60, 5, 0]},
        },
        "correlations": {"attributes": ["rating", "words", "sentiment"], "sets": {"real": correlations, "with_dp": correlations}},
    }


SUMMARY = {
    "categories": {"good": "Good", "gibberish": "Gibberish"},
    "num_judged": {"real": 4, "with_dp": 10, "no_dp": 0},
    "counts": {"real": {"good": 4, "gibberish": 0}, "with_dp": {"good": 6, "gibberish": 3}},
    "num_raters": 2,
}


def test_sentences_follow_the_numbers(data):
    planned = {figure.name: figure for figure in [*plan_fidelity_figures(data), *plan_human_figures(SUMMARY)]}
    assert list(planned) == [
        "fidelity_evaluation_result",
        "embedding_map",
        "word_frequencies",
        "attribute_correlations",
        "utility_evaluation_result_2",
    ]
    said = planned["fidelity_evaluation_result"].caption
    assert "The mean cosine is 0.600 (No DP) and 0.600 (With DP); other real reviews, drawn as Real, reach 0.800." in said
    assert "100 % (No DP) and 50 % (With DP)" in planned["embedding_map"].caption
    assert "less than half: 1 (No DP) and 2 (With DP); between two sets of real reviews 0." in planned["word_frequencies"].caption
    assert "+0.58 in real reviews, +0.58 (With DP)." in planned["attribute_correlations"].caption
    human = planned["utility_evaluation_result_2"]
    assert "What 2 people said" in human.caption
    assert "Called good: 100 % (Real) and 60 % (With DP)." in human.caption
    assert human.rows == [["Good", "4", "6"], ["Gibberish", "0", "3"]]


def test_every_figure_is_drawn_the_same_and_words_stay_words(data, tmp_path):
    for figure in [*plan_fidelity_figures(data), *plan_human_figures(SUMMARY)]:
        svg = save_figure(figure.draw(), tmp_path, figure.name).read_text(encoding="utf-8")
        if figure.name == "word_frequencies":
            assert save_figure(figure.draw(), tmp_path, figure.name).read_text(encoding="utf-8") == svg
        assert "<script" not in inline_svg(svg, figure.name, figure.caption)
        assert (tmp_path / f"{figure.name}.png").stat().st_size > 3000


def test_what_was_not_computed_has_no_figure(data):
    assert plan_fidelity_figures({}) == []
    assert plan_human_figures(None) == []
    assert plan_human_figures({**SUMMARY, "num_judged": {"real": 0}}) == []
    del data["nearest_neighbours"]["real"], data["embedding_map"]["real"], data["correlations"]["sets"]["real"]
    assert [figure.name for figure in plan_fidelity_figures(data)] == ["word_frequencies"]


@pytest.mark.parametrize("damage", [{"nearest_neighbours": [1]}, {"word_shares": {"words": ["a"]}}, {"embedding_map": {"real": [1], "a": [2]}}])
def test_damaged_data_is_one_line(data, damage):
    with pytest.raises(RunDirError, match=r"figure_data\.json: is damaged"):
        plan_fidelity_figures(data | damage)


def test_a_damaged_summary_is_one_line():
    with pytest.raises(RunDirError, match=r"summary\.json: is damaged"):
        plan_human_figures({"counts": {}})


def row(name, arm, value, interval=None, *, family="fidelity", direction="higher", reference=0.8):
    return MetricResult(family, name, arm, value, interval, reference, direction, "PRIVATE", 50, "source")


def test_families_are_summed_up_by_what_real_data_score():
    results = []
    for name, real, ours in (("mauve_score", (0.75, 0.85), 0.76), ("vendi_score", (0.75, 0.85), 0.9), ("topics_covered_frac", (0.75, 0.85), 0.5)):
        results += [row(name, "real", 0.8, real), row(name, "with_dp", ours, (ours - 0.02, ours + 0.02))]
    results += [row("zipf_slope", arm, -1.0, (-1.1, -0.9), direction="none") for arm in ("real", "with_dp")]
    (table,) = build_metric_tables(results)
    assert [metric.group for metric in table.rows] == ["Meaning", "Variety", "Meaning", "Words"]
    assert describe_family(table) == [
        "With DP: as good as another sample of real reviews by 2 of 3 figures; furthest off is “real topics covered” (0.500, reference 0.800)."
    ]


@pytest.mark.parametrize(("interval", "sentence"), [((0.0, 0.1), "1 of 1 tests find no more"), ((0.05, 0.2), "0 of 1 tests find no more")])
def test_privacy_asks_whether_the_interval_reaches_where_nothing_can_have_leaked(interval, sentence):
    kind = {"family": "privacy", "direction": "lower", "reference": 0.01}
    results = [row("near_duplicate_frac", "real", 0.01, (0.0, 0.03), **kind), row("near_duplicate_frac", "with_dp", interval[1] / 2, interval, **kind)]
    (table,) = build_metric_tables(results)
    assert sentence in describe_family(table)[0]


def test_a_long_family_is_drawn_by_its_headlines():
    few = build_metric_tables([row(f"m{i}", "with_dp", 0.5) for i in range(MAX_DRAWN)])[0]
    assert len(family_for_figure(few)) == MAX_DRAWN
    many = build_metric_tables([row(name, "with_dp", 0.5) for name in (*(f"m{i}" for i in range(MAX_DRAWN)), "mauve_score", "frechet_distance")])[0]
    assert [metric["label"] for metric in family_for_figure(many)] == ["MAUVE", "Distance of embeddings (Fréchet)"]
