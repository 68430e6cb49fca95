"""One body over every registered metric: what each must declare and do, whatever it measures."""

import hashlib
import math
import re
from collections import Counter

import numpy as np
import pytest

from penname.config import EvaluateConfig
from penname.evaluate.evaluate import build_samples
from penname.evaluate.planted_facts import PlantedFacts
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.registry import METRICS
from penname.evaluate.samples import Row, RowSet
from penname.evaluate.utility.downstream_scores import DownstreamScores, FitScores
from penname.schemas import FAMILIES

NUM = 60
NOUNS = ("case", "charger", "cable", "screen", "strap", "battery", "button", "stand", "lens", "cover")
PRAISE = ("great", "lovely", "sturdy", "perfect", "bright")
BLAME = ("awful", "broken", "cheap", "useless", "dull")
SQUEAKS_IN = {"Cases": "cold", "Cables": "hot", "Straps": "damp"}
FACTS = PlantedFacts({f"Acme {category}": {"squeaks": ("squeak", weather)} for category, weather in SQUEAKS_IN.items()})
OTHER_WEATHER = {"cold": "hot", "hot": "damp", "damp": "cold"}
GIBBERISH = "buy " * 8 + "xqjzvw kqzx vjqxz zqkwj qzxv " * 2
FOREIGN = "Das Gerät ist leider nach drei Wochen kaputt gegangen und niemand hilft mir weiter."


def fake_embed(texts):
    """Bag of hashed words, unit length: alike texts have alike vectors."""
    vectors = np.full((len(texts), 12), 1e-3)
    for i, text in enumerate(texts):
        for word in text.lower().split():
            vectors[i, hashlib.md5(word.encode()).digest()[0] % 12] += 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fake_likelihood(texts):
    """One token a word; words with four consonants in a row are unlikely."""
    return [np.array([-9.0 if re.search("[b-df-hj-np-tv-z]{4}", word) else -1.0 for word in text.split()[1:]], dtype=np.float32) for text in texts]


def draw_real(seed, num=NUM):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(num):
        is_positive = bool(rng.random() < 0.6)
        adjectives = PRAISE if is_positive else BLAME
        sentences = [
            f"The {rng.choice(NOUNS)} is {rng.choice(adjectives)} after {rng.integers(2, 999)} days of use." for _ in range(rng.integers(1, 4) + is_positive)
        ]
        # What tells one person from all others: a story, an address, and words that only a copy would hold.
        sentences.append(" ".join(f"w{k}" for k in rng.integers(0, 500, size=14)) + f" to a{rng.integers(10**9)}@x.org.")
        title = f"{rng.choice(adjectives)} v{rng.integers(500)} v{rng.integers(500)}"
        category = str(rng.choice(list(SQUEAKS_IN)))
        if rng.random() < 0.5:
            sentences.insert(0, f"It squeaks in {SQUEAKS_IN[category]} weather at {rng.integers(2, 999)} degrees.")
        rows.append(Row(5.0 if is_positive else 1.0, title, " ".join(sentences), category, f"Acme {category}"))
    return rows


def spoil(rows):
    """Worse in every respect: copied, a third of them three times, mislabelled, untrue, looping, broken, in part in another language, cut off."""
    spoilt = []
    for i, row in enumerate(rows[: len(rows) // 3] * 3):
        untrue = re.sub("cold|hot|damp", lambda found: OTHER_WEATHER[found[0]], row.text)
        text = (FOREIGN, re.sub("It squeaks.*?degrees. ", "", row.text), untrue, untrue, untrue)[i % 5]
        spoilt.append(Row(6 - row.rating, row.title, f"{text} \ufffd {GIBBERISH}\ufffd and then", row.category, row.product_title, "length"))
    return spoilt


def make_samples(**kwargs):
    train = draw_real(1)
    synthetic = {"good": draw_real(4, NUM - 7), "bad": spoil(train)}
    config = EvaluateConfig(num_bootstrap=40, **{"max_records": 50, "seed": 3, **kwargs})
    return build(train=train, heldout=draw_real(2), test=draw_real(3), synthetic=synthetic, config=config)


def build(**kwargs):
    return build_samples(embed=fake_embed, facts=FACTS, likelihood=fake_likelihood, downstream=fake_downstream, **kwargs)


def fake_downstream(samples):
    """A language model that counts: a word adds what it was rated, and a text is as likely as its words were often seen."""

    def tune(rows):
        seen, rated = Counter(word for words in rows.words for word in words), Counter()
        for row, words in zip(rows.rows, rows.words, strict=True):
            for word in {*words} & {*PRAISE, *BLAME}:
                rated[word] += row.rating - 3
        total = sum(seen.values()) + 1000
        sums = [sum(rated[word] for word in words) for words in samples.test.words]
        log_probs = np.log([np.where(np.arange(5) == (4 if rating > 0 else 0), 0.8, 0.05) for rating in sums])
        return FitScores(
            log_probs,
            np.array([sum(np.log((seen[word] + 1) / total) for word in words) for words in samples.test.words]),
            np.array([len(words) for words in samples.test.words]),
        )

    sets = {"real": samples.train, **samples.synthetic, "base": RowSet("base", [], fake_embed)}
    return DownstreamScores(np.array([round(row.rating) for row in samples.test.rows]), {arm: [tune(rows)] for arm, rows in sets.items()}, NUM)


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


@pytest.fixture(scope="module")
def estimates_of():
    """metric -> its estimates, each computed once, from one set of samples."""
    samples, known = make_samples(), {}

    def compute(metric):
        if metric.name not in known:
            known[metric.name] = metric.compute(samples)
        return known[metric.name]

    return compute


def test_estimates_are_whole(metric, estimates_of):
    estimates = estimates_of(metric)
    assert [estimate.arm for estimate in estimates] in (["real", "good", "bad"], ["real"], ["real", "good", "bad", "base"])
    for estimate in estimates:
        low, high = estimate.ci95
        assert all(math.isfinite(number) for number in (estimate.value, low, high, estimate.reference))
        assert metric.range[0] <= low <= estimate.value <= high <= metric.range[1]
        assert metric.range[0] <= estimate.reference <= metric.range[1]
        assert 1 <= estimate.num_records <= NUM


@pytest.fixture(scope="module")
def used_samples():
    """The same rows and the same seed once more; every metric was computed from these, the last one first."""
    samples = make_samples()
    for metric in reversed(METRICS):
        metric.compute(samples)
    return samples


def test_the_same_seed_gives_the_same_numbers_whatever_was_computed_before(metric, used_samples, estimates_of):
    assert metric.compute(used_samples) == estimates_of(metric)


@pytest.mark.parametrize(
    "metric",
    [metric for metric in METRICS if metric.direction != "none" and metric.name != "majority_accuracy_score"],
    ids=lambda metric: metric.name,
)
def test_better_data_score_better(metric, estimates_of):
    by_arm = {estimate.arm: estimate for estimate in estimates_of(metric)}
    good, bad = by_arm["good"].value, by_arm["bad"].value
    assert good > bad if metric.direction == "higher" else good < bad


@pytest.fixture(scope="module")
def tiny_samples():
    rows = draw_real(5, 8)
    return build(train=rows[:2], heldout=rows[2:4], test=rows[4:6], synthetic={"a": rows[6:]}, config=EvaluateConfig(num_bootstrap=20))


def test_two_rows_a_set_are_enough_not_to_crash(metric, tiny_samples):
    try:
        estimates = metric.compute(tiny_samples)
    except LeftOutError:
        return  # the contract of a metric that needs more rows
    for estimate in estimates:
        assert math.isfinite(estimate.value)
        assert estimate.ci95[0] <= estimate.value <= estimate.ci95[1]
