"""The rules that stand beside people: what a program says of the same faults, record by record."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np

from penname.evaluate.fidelity.gibberish import REAL_FRAC, LetterModel
from penname.evaluate.human.sample import SampledRecord
from penname.run_dir import ARTEFACTS, RunDir, read_rows
from penname.text_form import is_abrupt_ending, is_non_text, is_repeated

FormRule = Callable[[SampledRecord], bool]
NUM_TEXTS = 1000
"""Of train and of heldout, from which the letters of real text are learned."""

FORM_RULES: dict[str, FormRule] = {
    "non_text": lambda record: is_non_text(record.text),
    "repetition": lambda record: is_repeated(record.text),
    "abrupt_ending": lambda record: is_abrupt_ending(record.text, record.finish_reason),
}
"""Fault -> rule, of those that need nothing but the record."""


def make_form_rules(run_dir: RunDir) -> dict[str, FormRule]:
    """The rules for the records of a run: FORM_RULES, and gibberish as in `gibberish_letters_frac` where the run has real text to learn letters from.

    Args:
      run_dir: Its train and heldout records are read. PRIVATE.
    """
    train, heldout = (_read_texts(run_dir.root / ARTEFACTS[name].path) for name in ("train_records", "heldout_records"))
    if not train or not heldout:
        return FORM_RULES
    model = LetterModel(train)
    threshold = float(np.quantile(model.score(heldout), REAL_FRAC))
    return FORM_RULES | {"gibberish": lambda record: bool(model.score([record.text])[0] < threshold)}


def _read_texts(path: Path) -> list[str]:
    """The first texts of a file: its order says nothing of what is in them."""
    if not path.is_file():
        return []
    return [text for row in islice(read_rows(path), NUM_TEXTS) if (text := str(row.get("text", ""))).strip()]
