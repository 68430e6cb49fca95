"""What the privacy core raises. It never warns: a claim that does not hold stops the run."""

from __future__ import annotations

from typing import Any

_MAX_SHOWN = 120


class PrivacyError(Exception):
    """A guarantee cannot be given as asked; the message names the field or the check."""


class BudgetExceededError(PrivacyError):
    """An event would spend more than the promised (epsilon, delta)."""


class LedgerError(PrivacyError):
    """The ledger is damaged, or belongs to something else."""


class SelfCheckError(PrivacyError):
    """What the code does is not what the accountant assumes; names the check."""


def show_value(value: Any) -> str:
    """A value from a file of somebody else's as an error line may hold it: short, and nothing that moves a terminal's cursor."""
    try:
        shown = ascii(value)
    except (RecursionError, ValueError):
        return f"a {type(value).__name__}"
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}..."
