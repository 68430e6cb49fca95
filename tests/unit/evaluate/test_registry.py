"""The registry is a hand-written list; a wrong name is told what was meant."""

import pytest

from penname.errors import UsageError
from penname.evaluate.registry import METRICS, select_metrics


def test_none_means_what_does_not_take_long_and_order_is_the_registrys():
    usual = tuple(metric for metric in METRICS if metric.is_default)
    assert select_metrics(None) == select_metrics(["default"]) == usual
    assert len(usual) < len(METRICS)
    assert select_metrics(["all"]) == METRICS
    assert [metric.name for metric in select_metrics(["gibberish_tokens_frac", "default"]) if not metric.is_default] == ["gibberish_tokens_frac"]
    chosen = select_metrics(["tstr_accuracy_score", "frechet_distance"])
    assert [metric.name for metric in chosen] == ["frechet_distance", "tstr_accuracy_score"]


def test_unknown_and_empty():
    with pytest.raises(UsageError, match=r"'frechet_distanse'; did you mean frechet_distance\?"):
        select_metrics(["frechet_distanse"])
    with pytest.raises(UsageError, match="metrics are ngram_overlap_frac"):
        select_metrics(["zzz"])
    with pytest.raises(UsageError, match="empty"):
        select_metrics([])
