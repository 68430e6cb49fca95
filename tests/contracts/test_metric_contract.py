"""One body over every registered metric: what each must declare and do, whatever it measures."""

import hashlib
import math

import numpy as np
import pytest

from penname.config import EvaluateConfig
from penname.evaluate.evaluate import build_samples
from penname.evaluate.registry import METRICS
from penname.evaluate.samples import Row
from penname.schemas import FAMILIES

NUM = 60
NOUNS = ("case", "charger", "cable", "screen", "strap", "battery", "button", "stand", "lens", "cover")
PRAISE = ("great", "lovely", "sturdy", "perfect", "bright")
BLAME = ("awful", "broken", "cheap", "useless", "dull")


def fake_embed(texts):
    """Bag of hashed words, unit length: alike texts have alike vectors."""
    vectors = np.full((len(texts), 12), 1e-3)
    for i, text in enumerate(texts):
        for word in text.lower().split():
            vectors[i, hashlib.md5(word.encode()).digest()[0] % 12] += 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def draw_real(seed, num=NUM):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(num):
        is_positive = bool(rng.random() < 0.6)
        adjectives = PRAISE if is_positive else BLAME
        sentences = [f"The {rng.choice(NOUNS)} is {rng.choice(adjectives)} after {rng.integers(2, 999)} days of use." for _ in range(rng.integers(1, 5))]
        # What tells one person from all others: a story, an address, and words that only a copy would hold.
        sentences.append(" ".join(f"w{k}" for k in rng.integers(0, 500, size=14)) + f" to a{rng.integers(10**9)}@x.org.")
        title = f"{rng.choice(adjectives)} v{rng.integers(500)} v{rng.integers(500)}"
        rows.append(Row(5.0 if is_positive else 1.0, title, " ".join(sentences), str(rng.choice(["Cases", "Cables", "Straps"]))))
    return rows


def spoil(rows):
    """Worse in every respect: copied, mislabelled, looping, broken, cut off."""
    return [Row(6 - row.rating, row.title, f"{row.text} \ufffd {'buy ' * 8}\ufffd and then", row.category, "", "length") for row in rows]


def make_samples(**kwargs):
    train = draw_real(1)
    synthetic = {"good": draw_real(4, NUM - 7), "bad": spoil(train)}
    config = EvaluateConfig(num_bootstrap=40, **{"max_records": 50, "seed": 3, **kwargs})
    return build_samples(train=train, heldout=draw_real(2), test=draw_real(3), synthetic=synthetic, config=config, embed=fake_embed)


def test_the_registry_is_not_empty_and_names_are_unique():
    assert len(METRICS) >= 26
    assert len({metric.name for metric in METRICS}) == len(METRICS)


@pytest.fixture(params=METRICS, ids=lambda metric: metric.name)
def metric(request):
    return request.param


def test_declaration(metric):
    assert metric.family in FAMILIES
    assert metric.direction in ("higher", "lower", "none")
    assert metric.range[0] < metric.range[1]
    assert metric.version >= 1
    assert len(metric.source) > 10
    if metric.name.endswith("_score"):
        assert metric.direction == "higher"
    if metric.name.endswith(("_distance", "_divergence", "_error")):
        assert metric.direction == "lower"


def test_estimates_are_whole(metric):
    samples = make_samples()
    estimates = metric.compute(samples)
    assert [estimate.arm for estimate in estimates] in (["real", "good", "bad"], ["real"])
    for estimate in estimates:
        low, high = estimate.ci95
        assert all(math.isfinite(number) for number in (estimate.value, low, high, estimate.reference))
        assert metric.range[0] <= low <= estimate.value <= high <= metric.range[1]
        assert metric.range[0] <= estimate.reference <= metric.range[1]
        assert 1 <= estimate.num_records <= NUM


def test_the_same_seed_gives_the_same_numbers(metric):
    assert metric.compute(make_samples()) == metric.compute(make_samples())


@pytest.fixture(scope="module")
def used_samples():
    """Every metric was computed from these."""
    samples = make_samples()
    for metric in reversed(METRICS):
        metric.compute(samples)
    return samples


def test_another_metric_computed_first_changes_nothing(metric, used_samples):
    assert metric.compute(used_samples) == metric.compute(make_samples())


@pytest.mark.parametrize(
    "metric",
    [metric for metric in METRICS if metric.direction != "none" and metric.name != "majority_accuracy_score"],
    ids=lambda metric: metric.name,
)
def test_better_data_score_better(metric):
    by_arm = {estimate.arm: estimate for estimate in metric.compute(make_samples())}
    good, bad = by_arm["good"].value, by_arm["bad"].value
    assert good > bad if metric.direction == "higher" else good < bad


def test_two_rows_a_set_are_enough_not_to_crash(metric):
    config = EvaluateConfig(num_bootstrap=20)
    rows = draw_real(5, 8)
    samples = build_samples(train=rows[:2], heldout=rows[2:4], test=rows[4:6], synthetic={"a": rows[6:]}, config=config, embed=fake_embed)
    for estimate in metric.compute(samples):
        assert math.isfinite(estimate.value)
        assert estimate.ci95[0] <= estimate.value <= estimate.ci95[1]
