"""Every metric, in the order of the report. To add one: write its file, add its name here."""

from __future__ import annotations

import difflib

from penname.errors import UsageError
from penname.evaluate.fidelity.contamination import CONTAMINATION_SENTENCES, CONTAMINATION_WORDS
from penname.evaluate.fidelity.correlations import CORRELATION_MATRIX, RATING_LENGTH, RATING_SENTIMENT
from penname.evaluate.fidelity.distinct import DISTINCT_1, DISTINCT_2, DISTINCT_3
from penname.evaluate.fidelity.duplicates import REPEATED_IN_SET
from penname.evaluate.fidelity.facts import FACTS_CONTRADICTED, FACTS_CORRECT, FACTS_KNOWN, FACTS_OMITTED
from penname.evaluate.fidelity.frechet import FRECHET_DISTANCE
from penname.evaluate.fidelity.gibberish import GIBBERISH_LETTERS, GIBBERISH_TOKENS
from penname.evaluate.fidelity.jensen_shannon import JENSEN_SHANNON_DIVERGENCE
from penname.evaluate.fidelity.joint_attributes import RATING_CATEGORY
from penname.evaluate.fidelity.kolmogorov_smirnov import SENTENCES_PER_REVIEW_KS, WORDS_PER_REVIEW_KS, WORDS_PER_SENTENCE_KS
from penname.evaluate.fidelity.kullback_leibler import KULLBACK_LEIBLER_DIVERGENCE
from penname.evaluate.fidelity.language import LANGUAGE_DRIFT
from penname.evaluate.fidelity.mauve import MAUVE
from penname.evaluate.fidelity.nearest_neighbour_cosine import NEAREST_NEIGHBOUR_COSINE
from penname.evaluate.fidelity.neighbourhoods import COVERAGE, DENSITY, PRECISION, RECALL
from penname.evaluate.fidelity.review_length import WORDS_MEAN, WORDS_MEDIAN
from penname.evaluate.fidelity.self_bleu import SELF_BLEU
from penname.evaluate.fidelity.topics import TOPICS_COVERED
from penname.evaluate.fidelity.two_sample_test import C2ST_AUROC
from penname.evaluate.fidelity.vendi import VENDI_SCORE
from penname.evaluate.fidelity.vocabulary import BIGRAM_OVERLAP, VOCABULARY_COVERAGE, VOCABULARY_OVERLAP
from penname.evaluate.fidelity.wasserstein import SENTENCES_PER_REVIEW, WORDS_PER_REVIEW, WORDS_PER_SENTENCE
from penname.evaluate.fidelity.well_formed import ABRUPT_ENDING, NON_TEXT, REPEATED, WELL_FORMED
from penname.evaluate.fidelity.zipf import ZIPF_SLOPE
from penname.evaluate.metric import Metric
from penname.evaluate.privacy.closer_to_train import CLOSER_TO_TRAIN
from penname.evaluate.privacy.linkage import ATTRIBUTE_INFERENCE, LINKABILITY, SINGLING_OUT
from penname.evaluate.privacy.longest_common_substring import LONGEST_COMMON_SUBSTRING
from penname.evaluate.privacy.near_duplicates import NEAR_DUPLICATES
from penname.evaluate.privacy.ngram_overlap import NGRAM_OVERLAP_EXCESS, NGRAM_OVERLAP_FRAC, NGRAM_OVERLAP_FRAC_ALL_TRAIN, NGRAM_OVERLAP_FRAC_LONG
from penname.evaluate.privacy.personal_data import REPLAYED_PII
from penname.evaluate.utility.augmentation import AUGMENTATION
from penname.evaluate.utility.downstream import DOWNSTREAM
from penname.evaluate.utility.feature_importance import FEATURE_IMPORTANCE
from penname.evaluate.utility.tstr import MAJORITY_ACCURACY, TRTS, TSTR

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
    WORDS_PER_REVIEW_KS,
    WORDS_PER_SENTENCE_KS,
    SENTENCES_PER_REVIEW_KS,
    JENSEN_SHANNON_DIVERGENCE,
    KULLBACK_LEIBLER_DIVERGENCE,
    VOCABULARY_COVERAGE,
    VOCABULARY_OVERLAP,
    BIGRAM_OVERLAP,
    ZIPF_SLOPE,
    RATING_CATEGORY,
    RATING_LENGTH,
    RATING_SENTIMENT,
    CORRELATION_MATRIX,
    NEAREST_NEIGHBOUR_COSINE,
    FRECHET_DISTANCE,
    MAUVE,
    PRECISION,
    RECALL,
    DENSITY,
    COVERAGE,
    C2ST_AUROC,
    TOPICS_COVERED,
    DISTINCT_1,
    DISTINCT_2,
    DISTINCT_3,
    SELF_BLEU,
    VENDI_SCORE,
    REPEATED_IN_SET,
    WELL_FORMED,
    REPEATED,
    ABRUPT_ENDING,
    NON_TEXT,
    GIBBERISH_LETTERS,
    GIBBERISH_TOKENS,
    LANGUAGE_DRIFT,
    FACTS_CORRECT,
    FACTS_CONTRADICTED,
    FACTS_OMITTED,
    FACTS_KNOWN,
    CONTAMINATION_SENTENCES,
    CONTAMINATION_WORDS,
    *TSTR,
    MAJORITY_ACCURACY,
    *TRTS,
    *FEATURE_IMPORTANCE,
    *AUGMENTATION,
    *DOWNSTREAM,
)

_GROUPS = ("default", "all")


def select_metrics(names: list[str] | None) -> tuple[Metric, ...]:
    """The metrics of these names, in the order of the registry; None means all that do not take long.

    Args:
      names: `evaluate.metrics` of the config; `default` stands for what None means, and `all` for all.
    Raises:
      UsageError: a name is unknown, or there is none; says which was probably meant.
    """
    if names is None:
        names = ["default"]
    known = [metric.name for metric in METRICS]
    for name in names:
        if name not in known and name not in _GROUPS:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; metrics are {', '.join(known)}"
            raise UsageError(f"evaluate.metrics: no metric is called {name!r}{hint}")
    if not names:
        raise UsageError("evaluate.metrics: the list is empty; name a metric, or leave the key out for the usual ones")
    return tuple(metric for metric in METRICS if metric.name in names or "all" in names or (metric.is_default and "default" in names))
