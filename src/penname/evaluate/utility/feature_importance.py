"""Which words and attributes speak for a good rating: does a classifier of synthetic reviews find the same ones as a classifier of real reviews?

TF-IDF over the 500 commonest words of train, length and category, logistic regression; then, on the same real test rows, two measures of what
each feature does, and seven of how far two sets agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from penname.evaluate.bootstrap import interval_around
from penname.evaluate.metric import Estimate, Metric
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import LeftOut, RowSet, Samples
from penname.evaluate.utility.classifiers import count_words, label_sentiment, read_attributes
from penname.evaluate.utility.rank_agreement import jaccard_at, kendall, list_top, pearson, rank_biased_overlap, spearman

NUM_WORDS = 500
NUM_RESAMPLES = 8
"""Classifiers of resamples of each set; an interval looks at every pair, 64 of them."""
NUM_SHUFFLES = 5
NUM_DRAWN = 15
_ATTRIBUTE_SCALE = 0.2
"""Of standardised length and of category: beside a TF-IDF value, which is about so large, a feature of size 1 would hardly be penalised."""

KINDS = {
    "shap": ("", "exact SHAP values of a linear model, Lundberg and Lee (2017), arXiv:1705.07874, corollary 1"),
    "permutation": ("_permutation", "permutation importance, Breiman (2001), doi:10.1023/A:1010933404324"),
}


@dataclass(frozen=True, slots=True)
class Importance:
    """What features do in classifiers of one set. As private as the set."""

    main: dict[str, np.ndarray]
    """kind -> (K,) signed: of the rows themselves."""
    resampled: dict[str, np.ndarray]
    """kind -> (NUM_RESAMPLES, K): of bootstrap resamples of the rows."""


def shap_importance(weights: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Mean absolute SHAP value of each feature of a linear model, with the sign of its weight.

    Range, direction, reference: any number; positive speaks for the positive class.

    Args:
      weights: (K,) of the model.
      features: (m, K) rows that are explained, and the background whose mean is the absent feature. PRIVATE.
    Source: Lundberg and Lee (2017), arXiv:1705.07874, corollary 1: phi_j = w_j (x_j - E[x_j]), features taken as independent.

    >>> shap_importance(np.array([2.0, -1.0]), np.array([[0.0, 1.0], [1.0, 1.0]]))
    array([ 1., -0.])
    """
    return weights * np.abs(features - features.mean(axis=0)).mean(axis=0)


def permutation_importance(weights: np.ndarray, bias: float, features: np.ndarray, labels: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """How much a linear model's log loss rises when a feature's values are dealt to other rows, with the sign of its weight.

    Range, direction, reference: any number; 0 for a feature whose values help nothing, or harm.

    Args:
      weights, bias: (K,) and the intercept of a logistic regression.
      features: (m, K) rows. PRIVATE.
      labels: (m,) bool.
      rng: Seeded; deals NUM_SHUFFLES times.
    Source: Breiman (2001), doi:10.1023/A:1010933404324, with the log loss in place of the accuracy, which has ties.
    """
    margins = (features @ weights + bias)[:, None]
    signs = np.where(labels, 1.0, -1.0)[:, None]
    before = np.logaddexp(0.0, -signs * margins).mean()
    rises = np.zeros(len(weights))
    for _ in range(NUM_SHUFFLES):
        # One deal for all features: each is moved by itself, so theirs need not differ.
        order = rng.permutation(len(labels))
        moved = margins + weights * (features[order] - features)  # (m, K), column j with feature j dealt anew
        rises += np.logaddexp(0.0, -signs * moved).mean(axis=0) - before
    return np.sign(weights) * np.maximum(0.0, rises / NUM_SHUFFLES)


def _read_features(samples: Samples, sets: list[RowSet]) -> tuple[list[str], list[np.ndarray]]:
    """Names of the K features, and one dense (n, K) a set; the first set decides which words there are, and all scales."""
    from sklearn.feature_extraction.text import TfidfTransformer

    counted = count_words(samples, sets)
    num_texts = np.asarray((counted.tables[0] > 0).sum(axis=0)).ravel()
    known = np.sort(np.argsort(-num_texts, kind="stable")[: min(NUM_WORDS, int(np.count_nonzero(num_texts)))])
    if len(known) == 0:
        raise LeftOutError("no text of train has a word, so there are no words to weigh")
    weights: Any = TfidfTransformer(sublinear_tf=True).fit(counted.tables[0][:, known])
    attributes = read_attributes(sets)
    middle, spread = attributes.tables[0][:, 0].mean(), attributes.tables[0][:, 0].std() or 1.0
    features = []
    for words, table in zip(counted.tables, attributes.tables, strict=True):
        table[:, 0] = (table[:, 0] - middle) / spread
        features.append(np.hstack([weights.transform(words[:, known]).toarray(), _ATTRIBUTE_SCALE * table]))
    return [*(counted.vocabulary[place] for place in known), *attributes.names], features


def _weigh_features(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights and intercept of a classifier; those of one that says nothing where the rows are of one class."""
    from sklearn.linear_model import LogisticRegression

    if labels.all() or not labels.any():
        return np.zeros(features.shape[1]), 0.0
    classifier = LogisticRegression(C=1.0, class_weight="balanced", max_iter=1000).fit(features, labels)
    return classifier.coef_[0], float(classifier.intercept_[0])


def _measure_importance(features: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray, *, rng: np.random.Generator) -> Importance:
    def measure(drawn: np.ndarray, deals: np.random.Generator) -> dict[str, np.ndarray]:
        weights, bias = _weigh_features(features[drawn], labels[drawn])
        return {"shap": shap_importance(weights, test), "permutation": permutation_importance(weights, bias, test, test_labels, rng=deals)}

    # Every classifier is dealt the same shuffles: what differs is then the classifiers.
    deal_seed = int(rng.integers(2**32))
    main = measure(np.arange(len(labels)), np.random.default_rng(deal_seed))
    draws = [rng.integers(len(labels), size=len(labels)) for _ in range(NUM_RESAMPLES)]
    resampled = [measure(drawn, np.random.default_rng(deal_seed)) for drawn in draws]
    return Importance(main, {kind: np.array([one[kind] for one in resampled]) for kind in KINDS})


def _measure_sets(samples: Samples) -> tuple[int, dict[str, Importance]]:
    """Rows of each set, and the importance in train, in `real` (heldout) and in every arm; what figures show is left with the samples."""

    def measure() -> tuple[int, dict[str, Importance]]:
        num = min(samples.num_compared, len(samples.train))
        sets = {"train": samples.train, "real": samples.heldout, **samples.synthetic}
        taken = {name: samples.take(rows, num) for name, rows in sets.items()}
        test = samples.take(samples.test, num)
        names, (*features, test_features) = _read_features(samples, [*taken.values(), test])
        found = {}
        for (name, rows), own in zip(taken.items(), features, strict=True):
            labels = label_sentiment(rows)
            if name in ("train", "real") and (labels.all() or not labels.any()):
                raise LeftOutError(f"all {num} reviews of {rows.name} are {'good' if labels.all() else 'bad'}, so nothing tells good from bad there")
            if labels.all() or not labels.any():
                continue
            # The stream of train deals the shuffles of all.
            rng = samples.generator("feature_importance/train")
            found[name] = _measure_importance(own, labels, test_features, label_sentiment(test), rng=rng)
        samples.for_figures["feature_importance"] = _choose_drawn(names, found)
        return num, found

    return samples.once("feature_importance", measure)


def _choose_drawn(names: list[str], found: dict[str, Importance]) -> dict[str, Any]:
    """The features that are among the first of some set, the strongest in train first: names, and values by set."""
    tops = {abs(place) - 1 for importance in found.values() for place in list_top(importance.main["shap"])[: NUM_DRAWN // 2]}
    strongest = sorted(tops, key=lambda place: (-max(abs(importance.main["shap"][place]) for importance in found.values()), names[place]))[:NUM_DRAWN]
    chosen = sorted(strongest, key=lambda place: (-found["train"].main["shap"][place], names[place]))
    sets = {name: {kind: [float(values[place]) for place in chosen] for kind, values in importance.main.items()} for name, importance in found.items()}
    return {"features": [names[place] for place in chosen], "sets": sets}


Agreement = Callable[[np.ndarray, np.ndarray], float]


def _at_top(compare: Callable[[list[int], list[int]], float]) -> Agreement:
    return lambda first, second: compare(list_top(first), list_top(second))


MEASURES: dict[str, tuple[Agreement, tuple[float, float], str]] = {
    "pearson_score": (pearson, (-1.0, 1.0), "Pearson (1895), doi:10.1098/rspl.1895.0041"),
    "spearman_score": (spearman, (-1.0, 1.0), "Spearman (1904), doi:10.2307/1412159"),
    "kendall_score": (kendall, (-1.0, 1.0), "Kendall (1945), tau-b, doi:10.1093/biomet/33.3.239"),
    "rank_biased_overlap_score": (_at_top(rank_biased_overlap), (0.0, 1.0), "Webber et al. (2010), doi:10.1145/1852102.1852106"),
    **{f"jaccard_score_{num}": (_at_top(partial(jaccard_at, num=num)), (0.0, 1.0), f"Jaccard (1912) of the first {num}") for num in (10, 20, 50)},
}


def _compute(name: str, kind: str, measure: str, samples: Samples) -> list[Estimate]:
    """Agreement of each set with train; the reference is heldout's. An arm of one class is left out."""
    agree, bounds, _ = MEASURES[measure]
    num, found = _measure_sets(samples)
    train = found["train"]
    estimates = []
    for arm in ("real", *samples.synthetic):
        if arm not in found:
            samples.left_out.append(LeftOut(name, arm, "its reviews are all good or all bad, so nothing tells good from bad there"))
            continue
        value = agree(train.main[kind], found[arm].main[kind])
        pairs = product(train.resampled[kind], found[arm].resampled[kind])
        interval = interval_around(value, [agree(first, second) for first, second in pairs], bounds)
        estimates.append(Estimate(arm, value, interval, estimates[0].value if estimates else value, num))
    return estimates


def _declare(kind: str, measure: str) -> Metric:
    suffix, source = KINDS[kind]
    _, bounds, agreement = MEASURES[measure]
    name = f"feature_importance_{measure}{suffix}"
    return Metric(name, "utility", "higher", bounds, 1, f"{source}; {agreement}", partial(_compute, name, kind, measure), columns=("rating",))


FEATURE_IMPORTANCE = tuple(_declare(kind, measure) for kind in KINDS for measure in MEASURES)
