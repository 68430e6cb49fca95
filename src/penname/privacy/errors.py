"""What the privacy core raises. It never warns: a claim that does not hold stops the run."""

from __future__ import annotations


class PrivacyError(Exception):
    """A guarantee cannot be given as asked; the message names the field or the check."""


class BudgetExceededError(PrivacyError):
    """An event would spend more than the promised (epsilon, delta)."""


class LedgerError(PrivacyError):
    """The ledger is damaged, or belongs to something else."""


class SelfCheckError(PrivacyError):
    """What the code does is not what the accountant assumes; names the check."""
