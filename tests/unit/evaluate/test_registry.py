"""The registry is a hand-written list; a wrong name is told what was meant."""

import pytest

from penname.errors import UsageError
from penname.evaluate.registry import METRICS, select_metrics


def test_none_means_all_and_order_is_the_registrys():
    assert select_metrics(None) == METRICS
    chosen = select_metrics(["tstr_accuracy_score", "frechet_distance"])
    assert [metric.name for metric in chosen] == ["frechet_distance", "tstr_accuracy_score"]


def test_unknown_and_empty():
    with pytest.raises(UsageError, match=r"'frechet_distanse'; did you mean frechet_distance\?"):
        select_metrics(["frechet_distanse"])
    with pytest.raises(UsageError, match="metrics are ngram_overlap_frac"):
        select_metrics(["zzz"])
    with pytest.raises(UsageError, match="empty"):
        select_metrics([])
