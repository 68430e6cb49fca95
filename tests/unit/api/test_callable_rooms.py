"""`penname.plan` and its like are rooms and calls at once, and `import penname` loads nothing heavy."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "peft", "pydantic", "numpy", "polars", "sklearn", "matplotlib", "pyarrow"}


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()


def test_importing_penname_and_its_calls_is_light():
    code = f"import penname, penname.api.calls, sys\nprint(sorted(set(sys.modules) & {HEAVY!r}), callable(penname.run))"
    assert run_python(code) == ["[] True"]


def test_every_command_has_its_call():
    """Stages are `run(stages=...)`; the ratings commands end in `_ratings`."""
    import typer

    import penname
    from penname.cli import app
    from penname.pipeline import STAGE_NAMES

    commands: dict = typer.main.get_command(app).commands
    names = {name.replace("-", "_") for name in commands} - (set(STAGE_NAMES) - {"evaluate"}) - {"ratings"}
    names |= {f"{name}_ratings" for name in commands["ratings"].commands}
    assert names | {"open_run"} == set(penname.__all__)
    assert all(callable(getattr(penname, name)) for name in penname.__all__)


def test_a_room_is_a_call_whoever_imported_it_first():
    code = """
import penname
print(callable(penname.plan), penname.plan.__name__)
import penname.evaluate.registry as registry
print(callable(penname.evaluate), registry.__name__)
from penname import audit
import penname.records
print(callable(audit), callable(penname.records))
"""
    assert run_python(code) == ["True penname.plan", "True penname.evaluate.registry", "True False"]


def test_the_call_of_a_room_is_the_one_of_the_api(monkeypatch):
    import penname
    from penname.api import calls

    for name in ("audit", "evaluate", "plan"):
        monkeypatch.setattr(calls, name, lambda *args, **options: (args, options))
        assert getattr(penname, name)(1, out=2) == ((1,), {"out": 2})


def test_a_misspelt_call_is_an_ordinary_error():
    import penname

    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        penname.runn  # noqa: B018
    assert {"run", "plan", "__version__"} <= set(dir(penname))
