"""Known answers: sets whose quality nobody doubts, through every metric of fidelity and the sentences of the report."""

import pytest

from penname.config import EvaluateConfig
from penname.evaluate.computation import compute_metrics
from penname.evaluate.evaluate import build_samples
from penname.evaluate.registry import METRICS
from penname.report.comparison_wording import describe_family
from penname.report.metric_tables import build_metric_tables
from penname.schemas import MetricResult
from tests.contracts.test_metric_contract import FACTS, draw_real, fake_embed, fake_likelihood

NUM = 80
FIDELITY = tuple(metric for metric in METRICS if metric.family == "fidelity")
COPY_TESTS = tuple(metric for metric in METRICS if metric.name in ("near_duplicate_frac", "ngram_overlap_excess"))
PAIRED = {"rating_category_total_variation_distance", "rating_length_correlation_error", "rating_sentiment_correlation_error", "correlation_matrix_distance"}
"""Those that see which text goes with which rating."""


def shuffle_labels(rows):
    return [type(row)(other.rating, row.title, row.text, row.category, row.product_title) for row, other in zip(rows, rows[7:] + rows[:7], strict=True)]


def translate(rows):
    """No word, no topic and no form in common."""
    return [type(row)(3.0, "", "qqzx qqzw qqzv " * (3 + i % 3) + "\ufffd", "Other", "Unknown") for i, row in enumerate(rows)]


@pytest.fixture(scope="module")
def found():
    train, heldout, test = draw_real(1, NUM), draw_real(2, NUM), draw_real(3, NUM)
    synthetic = {
        "identical": test,
        "shuffled": shuffle_labels(test),
        "disjoint": translate(test),
        "copied": [*train[: NUM // 2], *draw_real(4, NUM // 2)],
        "repeated": [test[0]] * NUM,
    }
    config = EvaluateConfig(num_bootstrap=20)
    samples = build_samples(
        train=train, heldout=heldout, test=test, synthetic=synthetic, config=config, embed=fake_embed, facts=FACTS, likelihood=fake_likelihood
    )
    rows = compute_metrics(samples, FIDELITY + COPY_TESTS)
    return rows, samples.left_out


def value(found, name, arm):
    return next(row["value"] for row in found[0] if (row["name"], row["arm"]) == (name, arm))


def is_better(direction, first, second):
    return first > second if direction == "higher" else first < second


JUDGED = [metric for metric in FIDELITY if metric.direction != "none"]


@pytest.mark.parametrize("metric", JUDGED, ids=lambda metric: metric.name)
def test_identical_sets_are_at_least_as_good_as_other_real_ones(found, metric):
    identical, real = value(found, metric.name, "identical"), value(found, metric.name, "real")
    if metric.name == "embedding_density_score":  # a mean over neighbourhoods, of which each row lies in its own
        assert identical == pytest.approx(1.0, abs=0.35)
    elif metric.name == "c2st_auroc":
        assert identical == pytest.approx(0.5, abs=0.05)
    else:
        assert identical == pytest.approx(real) or is_better(metric.direction, identical, real)


@pytest.mark.parametrize("metric", [m for m in JUDGED if not m.name.startswith("facts_")], ids=lambda metric: metric.name)
def test_disjoint_sets_are_worse_than_identical_ones(found, metric):
    disjoint, identical = value(found, metric.name, "disjoint"), value(found, metric.name, "identical")
    assert is_better(metric.direction, identical, disjoint)


def test_a_set_that_names_no_product_has_no_facts_and_says_so(found):
    left = {row.name: row for row in found[1] if row.name.startswith("facts_")}
    assert set(left) == {f"facts_{kind}_frac" for kind in ("correct", "contradicted", "omitted", "known")}
    assert all(row.arm == "disjoint" and "names a product" in row.reason for row in left.values())


@pytest.mark.parametrize("metric", FIDELITY, ids=lambda metric: metric.name)
def test_shuffled_labels_move_what_reads_labels_and_nothing_else(found, metric):
    shuffled, identical = value(found, metric.name, "shuffled"), value(found, metric.name, "identical")
    if metric.name in PAIRED:
        assert shuffled > identical
    elif metric.name == "mauve_score":
        assert shuffled == pytest.approx(identical, abs=0.02)  # bins are drawn anew for each set
    elif not metric.name.startswith(("contamination_", "c2st_")):  # these draw an order by the name of the set
        assert shuffled == pytest.approx(identical, abs=1e-9)


WHOLE = (
    "distinct_2_frac",
    "self_bleu",
    "vendi_score",
    "repeated_in_set_frac",
    "embedding_recall_score",
    "embedding_coverage_score",
    "mauve_score",
    "frechet_distance",
    "c2st_auroc",
    "topics_covered_frac",
    "vocabulary_coverage_frac",
    "facts_known_frac",
    "jensen_shannon_divergence",
)


@pytest.mark.parametrize("name", WHOLE)
def test_one_repeated_row_is_seen_by_what_looks_at_the_whole_set(found, name):
    metric = next(metric for metric in FIDELITY if metric.name == name)
    repeated, real = value(found, name, "repeated"), value(found, name, "real")
    if name == "facts_known_frac":  # of the one product that it names, it tells the one fact or not
        assert repeated in (0.0, 1.0)
    else:
        assert is_better(metric.direction, real, repeated)


def test_one_repeated_row_fools_what_looks_at_single_texts(found):
    assert value(found, "embedding_precision_score", "repeated") == 1.0
    assert value(found, "nearest_neighbour_cosine_score", "repeated") == pytest.approx(1.0)


def test_half_copied_from_train_is_good_fidelity_and_caught_as_copies(found):
    assert value(found, "near_duplicate_frac", "copied") == pytest.approx(0.5, abs=0.1)
    assert value(found, "ngram_overlap_excess", "copied") > 0.15 > value(found, "ngram_overlap_excess", "real")
    assert value(found, "c2st_auroc", "copied") < 0.65


def test_the_words_of_the_report_follow(found):
    fields = MetricResult.__dataclass_fields__
    results = [MetricResult(**{key: row[key] for key in fields}) for row in found[0]]
    said = {}
    for table in build_metric_tables(results):
        said[table.family] = {sentence.partition(":")[0]: sentence for sentence in describe_family(table)}
    assert set(said["fidelity"]) == {"copied", "disjoint", "identical", "repeated", "shuffled"}
    counts = {arm: [int(word) for word in sentence.split() if word.isdigit()][:2] for arm, sentence in said["fidelity"].items()}
    good = {arm: num / total for arm, (num, total) in counts.items()}
    assert good["identical"] > 0.95
    assert good["disjoint"] < 0.2
    assert good["repeated"] < good["copied"]
    assert good["shuffled"] < 1.0
    assert "sentiment go together" in said["fidelity"]["shuffled"] or "correlations" in said["fidelity"]["shuffled"]
    assert said["privacy"]["copied"].startswith("copied: 0 of 2 tests find no more")
    assert said["privacy"]["disjoint"] == "disjoint: 2 of 2 tests find no more than where nothing can have leaked."
