"""penname: private text in, synthetic text out, with a differential-privacy guarantee that anyone can check.

Everything that the command line does is one call away, `penname.run(...)` and so on: docs/python.md.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penname import audit, evaluate, plan
    from penname.api.calls import export_ratings, fetch, import_ratings, open_run, run, sample_data, serve, summarise_ratings, verify

__version__ = "0.1.0"
__all__ = [
    "audit",
    "evaluate",
    "export_ratings",
    "fetch",
    "import_ratings",
    "open_run",
    "plan",
    "run",
    "sample_data",
    "serve",
    "summarise_ratings",
    "verify",
]

_ROOMS_WITH_CALLS = ("audit", "evaluate", "plan")


class _CallableRoom(ModuleType):
    """A room of the house whose name is a call, too: `penname.plan` is the module, and `penname.plan(...)` plans."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from penname.api import calls

        return getattr(calls, self.__name__.rpartition(".")[2])(*args, **kwargs)


class _House(ModuleType):
    """This module: it makes those rooms callable when the import system puts them here, whoever imports them first."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _ROOMS_WITH_CALLS and isinstance(value, ModuleType):
            value.__class__ = _CallableRoom
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _House


def __getattr__(name: str) -> Any:
    """The calls, imported when they are first used, so that `import penname` stays light."""
    import importlib

    if name in _ROOMS_WITH_CALLS:
        return importlib.import_module(f"penname.{name}")
    if name in __all__:
        return getattr(importlib.import_module("penname.api.calls"), name)
    raise AttributeError(f"module 'penname' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
