"""What can be wrong with an answer or with the file of answers."""

from __future__ import annotations

from penname.errors import PennameError


class AnswerError(PennameError):
    """An answer is outside the scale, or lacks a part; nothing was stored."""


class RatingsError(PennameError):
    """The file of answers cannot be read or written; what is in it is left alone."""
