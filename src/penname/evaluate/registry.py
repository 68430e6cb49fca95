"""Every metric, in the order of the report. To add one: write its file, add its name here."""

from __future__ import annotations

import difflib

from penname.errors import UsageError
from penname.evaluate.fidelity.frechet import FRECHET_DISTANCE
from penname.evaluate.fidelity.jensen_shannon import JENSEN_SHANNON_DIVERGENCE
from penname.evaluate.fidelity.nearest_neighbour_cosine import NEAREST_NEIGHBOUR_COSINE
from penname.evaluate.fidelity.review_length import WORDS_MEAN, WORDS_MEDIAN
from penname.evaluate.fidelity.wasserstein import SENTENCES_PER_REVIEW, WORDS_PER_REVIEW, WORDS_PER_SENTENCE
from penname.evaluate.fidelity.well_formed import ABRUPT_ENDING, NON_TEXT, REPEATED, WELL_FORMED
from penname.evaluate.metric import Metric
from penname.evaluate.privacy.closer_to_train import CLOSER_TO_TRAIN
from penname.evaluate.privacy.linkage import ATTRIBUTE_INFERENCE, LINKABILITY, SINGLING_OUT
from penname.evaluate.privacy.longest_common_substring import LONGEST_COMMON_SUBSTRING
from penname.evaluate.privacy.near_duplicates import NEAR_DUPLICATES
from penname.evaluate.privacy.ngram_overlap import NGRAM_OVERLAP_EXCESS, NGRAM_OVERLAP_FRAC, NGRAM_OVERLAP_FRAC_ALL_TRAIN, NGRAM_OVERLAP_FRAC_LONG
from penname.evaluate.privacy.personal_data import REPLAYED_PII
from penname.evaluate.utility.tstr import MAJORITY_ACCURACY, TSTR_ACCURACY, TSTR_MACRO_F1

METRICS: tuple[Metric, ...] = (
    NGRAM_OVERLAP_FRAC,
    NGRAM_OVERLAP_EXCESS,
    NGRAM_OVERLAP_FRAC_ALL_TRAIN,
    NGRAM_OVERLAP_FRAC_LONG,
    LONGEST_COMMON_SUBSTRING,
    NEAR_DUPLICATES,
    CLOSER_TO_TRAIN,
    REPLAYED_PII,
    ATTRIBUTE_INFERENCE,
    LINKABILITY,
    SINGLING_OUT,
    WORDS_MEAN,
    WORDS_MEDIAN,
    WORDS_PER_REVIEW,
    WORDS_PER_SENTENCE,
    SENTENCES_PER_REVIEW,
    JENSEN_SHANNON_DIVERGENCE,
    NEAREST_NEIGHBOUR_COSINE,
    FRECHET_DISTANCE,
    WELL_FORMED,
    REPEATED,
    ABRUPT_ENDING,
    NON_TEXT,
    TSTR_ACCURACY,
    TSTR_MACRO_F1,
    MAJORITY_ACCURACY,
)


def select_metrics(names: list[str] | None) -> tuple[Metric, ...]:
    """The metrics of these names, in the order of the registry; None means all.

    Args:
      names: `evaluate.metrics` of the config.
    Raises:
      UsageError: a name is unknown, or there is none; says which was probably meant.
    """
    if names is None:
        return METRICS
    known = [metric.name for metric in METRICS]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; metrics are {', '.join(known)}"
            raise UsageError(f"evaluate.metrics: no metric is called {name!r}{hint}")
    if not names:
        raise UsageError("evaluate.metrics: the list is empty; name a metric, or leave the key out for all")
    return tuple(metric for metric in METRICS if metric.name in names)
