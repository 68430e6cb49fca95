"""Downstream language model: a fresh base model learns the rating from the reviews of each set and is asked about real test reviews.

The tuning is done once, by what `Samples.downstream` holds; the metrics of this file read its scores.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from penname.evaluate.bootstrap import interval_around
from penname.evaluate.metric import Estimate, Metric
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import Samples
from penname.evaluate.utility.downstream_scores import DownstreamScores, FitScores, count_confusion, mean_absolute_error, perplexity
from penname.evaluate.utility.tstr import accuracy, macro_f1
from penname.schemas import BASE

LARGEST_PERPLEXITY = 1e9
_SOURCE = "likelihood of the tokens 1 to 5 after the review, as Brown et al. (2020), arXiv:2005.14165, score choices; LoRA, Hu et al. (2021), arXiv:2106.09685"

Measure = Callable[[DownstreamScores, FitScores, np.ndarray], float]


def _by_rating(score: Callable[[np.ndarray, np.ndarray], float]) -> Measure:
    return lambda scores, fit, drawn: score(scores.truth[drawn], fit.ratings[drawn])


def _by_tokens(_scores: DownstreamScores, fit: FitScores, drawn: np.ndarray) -> float:
    return min(LARGEST_PERPLEXITY, perplexity(fit.text_log_likelihoods[drawn], fit.num_text_tokens[drawn]))


def read_scores(samples: Samples) -> DownstreamScores:
    """The scores of all models, computed when they are first asked for; the confusion is left for the report.

    Raises:
      LeftOutError: nobody can tune models here, or there was not enough memory.
    """

    def tune() -> DownstreamScores | LeftOutError:
        if samples.downstream is None:
            return LeftOutError("no language model can be tuned here")
        try:
            scores = samples.downstream(samples)
        except LeftOutError as error:
            # What failed after an hour is not tried again for the next metric.
            return error
        arms = {arm: sum(count_confusion(scores.truth, fit.ratings) for fit in fits) for arm, fits in scores.fits.items()}
        samples.for_figures["downstream_confusion"] = {
            "num_train": scores.num_train,
            "num_test": len(scores.truth),
            "num_seeds": {arm: len(fits) for arm, fits in scores.fits.items()},
            "counts": {arm: np.asarray(counts).tolist() for arm, counts in arms.items()},
        }
        return scores

    found = samples.once("downstream", tune)
    if isinstance(found, LeftOutError):
        raise found
    return found


def _compute(name: str, measure: Measure, bounds: tuple[float, float], samples: Samples) -> list[Estimate]:
    """Mean over the seeds. Each resample draws seeds and test reviews anew, both sources of chance together."""
    scores = read_scores(samples)
    everything = np.arange(len(scores.truth))
    values = {arm: float(np.mean([measure(scores, fit, everything) for fit in fits])) for arm, fits in scores.fits.items()}
    estimates = []
    for arm in ("real", *samples.synthetic, BASE):
        fits, rng = scores.fits[arm], samples.generator(f"{name}/{arm}")
        resampled = []
        for _ in range(samples.num_bootstrap):
            drawn = rng.integers(len(everything), size=len(everything))
            resampled.append(float(np.mean([measure(scores, fits[place], drawn) for place in rng.integers(len(fits), size=len(fits))])))
        interval = interval_around(values[arm], resampled, bounds)
        estimates.append(Estimate(arm, values[arm], interval, values["real"], len(everything)))
    return estimates


def _declare(name: str, direction: str, bounds: tuple[float, float], measure: Measure) -> Metric:
    compute = partial(_compute, name, measure, bounds)
    return Metric(name, "utility", "higher" if direction == "higher" else "lower", bounds, 1, _SOURCE, compute, is_default=False, columns=("rating",))


DOWNSTREAM = (
    _declare("downstream_llm_accuracy_score", "higher", (0.0, 1.0), _by_rating(accuracy)),
    _declare("downstream_llm_macro_f1_score", "higher", (0.0, 1.0), _by_rating(macro_f1)),
    _declare("downstream_llm_mean_absolute_error", "lower", (0.0, 4.0), _by_rating(mean_absolute_error)),
    _declare("downstream_llm_perplexity", "lower", (1.0, LARGEST_PERPLEXITY), _by_tokens),
)
