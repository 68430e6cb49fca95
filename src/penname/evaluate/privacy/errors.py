"""What an audit raises: a figure that cannot be had, and a guarantee that does not hold."""

from __future__ import annotations

from penname.errors import PennameError


class LeftOutError(PennameError):
    """A figure that these data cannot give. The message says why and what it would take; the figure is left out by name, never zero."""


class AuditFailureError(PennameError):
    """An attack got further than the claimed guarantee allows: the guarantee does not hold."""
