"""What goes wrong between processes."""

from __future__ import annotations

from penname.errors import PennameError


class EngineError(PennameError):
    """A rank or a worker is lost, a cluster does not answer, or it runs other versions. Exit code 1; what was finished is kept."""


def first_line(error: BaseException) -> str:
    """What an error says, in one line, as another process may be told.

    >>> first_line(ValueError("no such unit" + chr(10) + "a long story"))
    'no such unit'
    >>> first_line(KeyError())
    'KeyError'
    """
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
