"""Texts that a generator broke: repetition, abrupt endings, characters that are not text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from penname.evaluate.bootstrap import Interval, frac_interval
from penname.evaluate.metric import Estimate, Metric, describe_each
from penname.evaluate.samples import Row, RowSet, Samples
from penname.text_form import is_abrupt_ending, is_non_text, is_repeated


def _is_well_formed(row: Row) -> bool:
    return not (is_repeated(row.text) or is_abrupt_ending(row.text, row.finish_reason) or is_non_text(row.text))


def _is_row_repeated(row: Row) -> bool:
    return is_repeated(row.text)


def _is_row_abrupt(row: Row) -> bool:
    return is_abrupt_ending(row.text, row.finish_reason)


def _is_row_non_text(row: Row) -> bool:
    return is_non_text(row.text)


def _measure(is_hit: Callable[[Row], bool], rows: RowSet, samples: Samples, stream: str) -> tuple[float, Interval]:
    num_hits = sum(is_hit(row) for row in rows.rows)
    return num_hits / len(rows), frac_interval(num_hits, len(rows))


def _compute(name: str, is_hit: Callable[[Row], bool], samples: Samples) -> list[Estimate]:
    return describe_each(samples, name, partial(_measure, is_hit))


def _declare(name: str, direction: Literal["higher", "lower"], is_hit: Callable[[Row], bool], source: str) -> Metric:
    return Metric(name, "fidelity", direction, (0.0, 1.0), 1, source, partial(_compute, name, is_hit))


WELL_FORMED = _declare("well_formed_frac", "higher", _is_well_formed, "neither repeated, nor abruptly ended, nor non-text (rules of penname)")
REPEATED = _declare("repeated_frac", "lower", _is_row_repeated, "Holtzman et al. (2020), phrases repeated in a row; arXiv:1904.09751")
ABRUPT_ENDING = _declare("abrupt_ending_frac", "lower", _is_row_abrupt, "cut by the token limit, or no final mark (rule of penname)")
NON_TEXT = _declare("non_text_frac", "lower", _is_row_non_text, "broken encoding or over 5 % of non-text characters (rule of penname)")
