"""Feature importance: the formulas by hand and by brute force, and sets whose agreement is known."""

import numpy as np
import pytest

from penname.config import EvaluateConfig
from penname.evaluate.computation import compute_metrics
from penname.evaluate.evaluate import build_samples
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import Row
from penname.evaluate.utility.feature_importance import FEATURE_IMPORTANCE, permutation_importance, shap_importance

PRAISE, BLAME, NEUTRAL = ("great", "lovely", "sturdy"), ("awful", "broken", "cheap"), tuple(f"word{k}" for k in range(30))
BY_NAME = {metric.name: metric for metric in FEATURE_IMPORTANCE}


def draw_rows(seed, num=60, *, flip=False, category="Cases"):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(num):
        words = [*rng.choice(PRAISE if i % 2 else BLAME, 2), *rng.choice(NEUTRAL, 4)]
        rows.append(Row(5.0 if (i % 2 == 1) != flip else 1.0, "", " ".join(words), category))
    return rows


def make_samples(synthetic, train=None):
    config = EvaluateConfig(num_bootstrap=20, max_records=60)
    return build_samples(train=train or draw_rows(1), heldout=draw_rows(2), test=draw_rows(3), synthetic=synthetic, config=config)


def test_shap_values_sum_to_what_the_model_says_of_each_row():
    rng = np.random.default_rng(0)
    features, weights = rng.normal(size=(20, 5)), rng.normal(size=5)
    values = weights * (features - features.mean(axis=0))  # (m, K), of every row
    np.testing.assert_allclose(values.sum(axis=1), features @ weights - (features @ weights).mean())
    np.testing.assert_allclose(shap_importance(weights, features), np.sign(weights) * np.abs(values).mean(axis=0))


def test_shap_values_are_those_of_the_definition():
    """Shapley's sum over all subsets, an absent feature being its mean: two features, by hand."""
    weights, features = np.array([2.0, -1.0]), np.array([[1.0, 0.0], [3.0, 4.0]])
    means = features.mean(axis=0)

    def value(row, present):
        return sum(weights[j] * (features[row, j] if j in present else means[j]) for j in range(2))

    for j in range(2):
        other = 1 - j
        shapley = [0.5 * (value(row, {j}) - value(row, set())) + 0.5 * (value(row, {0, 1}) - value(row, {other})) for row in range(2)]
        assert shap_importance(weights, features)[j] == pytest.approx(np.sign(weights[j]) * np.mean(np.abs(shapley)))


def test_permutation_importance_is_the_rise_of_the_loss():
    rng = np.random.default_rng(1)
    features, labels = rng.normal(size=(30, 3)), rng.random(30) < 0.5
    weights, bias = np.array([1.5, -2.0, 0.0]), 0.3

    def loss(table):
        probs = 1 / (1 + np.exp(-(table @ weights + bias)))
        return -np.mean(np.where(labels, np.log(probs), np.log(1 - probs)))

    orders = np.random.default_rng(9)
    rises = np.zeros(3)
    for order in [orders.permutation(30) for _ in range(5)]:
        for j in range(3):
            moved = features.copy()
            moved[:, j] = features[order, j]
            rises[j] += (loss(moved) - loss(features)) / 5
    expected = np.sign(weights) * np.maximum(0, rises)
    np.testing.assert_allclose(permutation_importance(weights, bias, features, labels, rng=np.random.default_rng(9)), expected, atol=1e-12)
    assert expected[2] == 0


@pytest.fixture(scope="module")
def values():
    train = draw_rows(1)
    synthetic = {"same": train, "like": draw_rows(5), "flipped": draw_rows(6, flip=True), "one_row": [draw_rows(7)[0], draw_rows(7)[1]] * 30}
    samples = make_samples(synthetic, train)
    rows = compute_metrics(samples, FEATURE_IMPORTANCE)
    assert samples.left_out == []
    return {(row["name"], row["arm"]): row["value"] for row in rows}, samples


@pytest.mark.parametrize("metric", FEATURE_IMPORTANCE, ids=lambda metric: metric.name)
def test_known_sets_agree_as_they_must(values, metric):
    found, _ = values
    assert found[metric.name, "same"] == pytest.approx(1.0)
    assert found[metric.name, "like"] > found[metric.name, "flipped"]
    assert found[metric.name, "real"] > found[metric.name, "flipped"]
    assert found[metric.name, "one_row"] < found[metric.name, "same"]


def test_the_words_that_decide_are_left_for_the_report(values):
    _, samples = values
    drawn = samples.for_figures["feature_importance"]
    assert {*PRAISE, *BLAME} <= set(drawn["features"])
    by_word = dict(zip(drawn["features"], drawn["sets"]["train"]["shap"], strict=True))
    assert all(by_word[word] > 0 for word in PRAISE)
    assert all(by_word[word] < 0 for word in BLAME)
    assert set(drawn["sets"]) == {"train", "real", "same", "like", "flipped", "one_row"}


def test_a_category_can_be_what_decides():
    def rows(seed):
        return [Row(row.rating, "", "the same words", "Good" if row.rating > 3 else "Bad") for row in draw_rows(seed)]

    samples = build_samples(train=rows(1), heldout=rows(2), test=rows(3), synthetic={"a": rows(4)}, config=EvaluateConfig(num_bootstrap=20))
    BY_NAME["feature_importance_pearson_score"].compute(samples)
    drawn = samples.for_figures["feature_importance"]
    by_name = dict(zip(drawn["features"], drawn["sets"]["a"]["shap"], strict=True))
    assert by_name["category Good"] > 0 > by_name["category Bad"]


def test_a_set_of_one_class_is_left_out_and_the_rest_stays():
    good = [Row(5.0, "", row.text, row.category) for row in draw_rows(4)]
    samples = make_samples({"one_class": good, "like": draw_rows(5)})
    estimates = BY_NAME["feature_importance_jaccard_score_20"].compute(samples)
    assert [estimate.arm for estimate in estimates] == ["real", "like"]
    assert [(left.arm, left.name) for left in samples.left_out] == [("one_class", "feature_importance_jaccard_score_20")]


def test_without_two_classes_in_train_nothing_can_be_said():
    samples = make_samples({"like": draw_rows(5)}, [Row(5.0, "", row.text, row.category) for row in draw_rows(4)])
    with pytest.raises(LeftOutError, match="reviews of train are good"):
        BY_NAME["feature_importance_jaccard_score_20"].compute(samples)


def test_without_words_nothing_can_be_said():
    rows = [Row(row.rating, "", "!!!", "c") for row in draw_rows(1)]
    samples = build_samples(train=rows, heldout=rows, test=rows, synthetic={"a": rows}, config=EvaluateConfig(num_bootstrap=20))
    with pytest.raises(LeftOutError, match="no text of train has a word"):
        BY_NAME["feature_importance_pearson_score"].compute(samples)
