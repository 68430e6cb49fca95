"""The house rules, as checks: who may import whom, what may be named nowhere, what the docs must say."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"

FLOORS = {
    **dict.fromkeys(("privacy", "distributed", "errors", "progress"), 1),
    **dict.fromkeys(("completion", "config", "schemas", "segmentation", "text_form"), 2),
    **dict.fromkeys(("model", "run_dir", "template", "run_privacy", "stores", "unit_file"), 3),
    **dict.fromkeys(("ingest", "records", "train", "generate", "evaluate", "report"), 4),
    **dict.fromkeys(("pipeline", "web", "plan", "audit"), 5),
    **dict.fromkeys(("cli", "api", "__main__", ""), 6),
}
"""Floor of each room. An import goes down, or stays in its room; on floors 1 to 3 it may also go to a neighbour, never in a circle.
progress says lines and bars and knows nothing of ours, so that everyone may use it. The empty name is penname/__init__."""
STAGES = {room for room, floor in FLOORS.items() if floor == 4}
MAX_FUNCTION_LINES = 60
BANNED_NAMES = re.compile(r"^(utils?|common|helpers?|misc|managers?|base_.*)$")


def room_of(module: str) -> str:
    """penname.train.loop -> train; penname itself (its version) -> the empty room, which anyone may import."""
    return module.split(".")[1] if "." in module else ""


def our_imports(path: Path, src: Path) -> set[str]:
    """Modules of ours that a file imports, at its head, inside functions, and only for types, as dotted names."""
    package = ".".join(path.relative_to(src).with_suffix("").parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package.split(".")[: -node.level]
                found.add(".".join([*base, *([node.module] if node.module else [])]))
            elif node.module == "penname":
                found |= {f"penname.{alias.name}" if _is_module(src, alias.name) else "penname" for alias in node.names}
            else:
                found.add(node.module or "")
        elif isinstance(node, ast.Constant) and _names_module(node.value, src):
            # The pipeline names its stages as text and imports them by it.
            found.add(node.value)
    return {name for name in found if name == "penname" or name.startswith("penname.")}


def _names_module(value: object, src: Path) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"penname(\.\w+)+", value)) and _is_module(src, value.removeprefix("penname.").replace(".", "/"))


def _is_module(src: Path, name: str) -> bool:
    return (src / "penname" / f"{name}.py").is_file() or (src / "penname" / name).is_dir()


def import_faults(src: Path) -> list[str]:
    """Every import that goes up, across the stages, or round in a circle, as a sentence."""
    faults: list[str] = []
    graph: dict[str, set[str]] = {}
    for path in sorted((src / "penname").rglob("*.py")):
        room = path.relative_to(src / "penname").parts[0].removesuffix(".py")
        if room == "__init__":
            room = ""
        for target in sorted(our_imports(path, src)):
            other = room_of(target)
            if other == room or not other:
                continue
            where = path.relative_to(src).as_posix()
            unknown = [name for name in (room, other) if name not in FLOORS]
            if unknown:
                faults.append(f"{where}: {unknown[0] or 'penname/__init__'} has no floor; give it one")
                continue
            graph.setdefault(room, set()).add(other)
            if FLOORS[other] > FLOORS[room]:
                faults.append(f"{where}: imports upward, {other}")
            elif room == "privacy":
                faults.append(f"{where}: privacy imports {other}; it knows nothing of ours")
            elif room in STAGES and other in STAGES:
                faults.append(f"{where}: the stage {room} imports the stage {other}")
    return faults + [f"rooms import each other in a circle: {' -> '.join(circle)}" for circle in _circles(graph)]


def _circles(graph: dict[str, set[str]]) -> Iterator[list[str]]:
    def walk(room: str, trail: list[str]) -> Iterator[list[str]]:
        if room in trail:
            yield [*trail[trail.index(room) :], room]
            return
        for other in sorted(graph.get(room, ())):
            yield from walk(other, [*trail, room])

    for start in sorted(graph):
        for circle in walk(start, []):
            # Told once, from its first room.
            if circle[0] == start == min(circle):
                yield circle


def test_imports_go_down_and_never_in_a_circle():
    assert list((SRC / "penname").rglob("*.py")), "nothing to check"
    assert import_faults(SRC) == []


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("train/loop.py", "from penname.generate.decode import x", "the stage train imports the stage generate"),
        ("train/loop.py", "def f():\n    import penname.report.build", "the stage train imports the stage report"),
        ("train/loop.py", "from ..generate import decode", "the stage train imports the stage generate"),
        ("privacy/noise.py", "from penname.errors import PennameError", "privacy imports errors"),
        ("model/loss.py", "from penname import pipeline", "imports upward, pipeline"),
        ("config.py", "if TYPE_CHECKING:\n    from penname.run_dir import RunDir", "imports upward, run_dir"),
        ("records/split.py", "import penname.cli", "imports upward, cli"),
        ("report/build.py", 'importlib.import_module("penname.train.loop")', "the stage report imports the stage train"),
        ("attic.py", "import penname.errors", "attic has no floor"),
    ],
)
def test_a_forbidden_import_is_noticed(tmp_path: Path, path: str, source: str, fault: str):
    make_tree(tmp_path, {path: source})
    assert any(fault in found for found in import_faults(tmp_path))


def test_a_circle_is_noticed(tmp_path: Path):
    make_tree(tmp_path, {"model/base.py": "import penname.run_dir", "run_dir.py": "import penname.template", "template.py": "import penname.model.base"})
    assert import_faults(tmp_path) == ["rooms import each other in a circle: model -> run_dir -> template -> model"]


def test_allowed_imports_are_no_faults(tmp_path: Path):
    make_tree(tmp_path, {"train/loop.py": "from penname import __version__\nfrom penname.privacy.noise import x\nfrom penname.train.arms import y"})
    assert import_faults(tmp_path) == []


def make_tree(src: Path, sources: dict[str, str]) -> None:
    names = ("generate/decode", "report/build", "train/arms", "train/loop", "privacy/noise", "errors", "pipeline", "cli", "run_dir", "model/base", "template")
    for name in [*(f"{name}.py" for name in names), *sources]:
        path = src / "penname" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sources.get(name, ""), encoding="utf-8")


def danger_faults(path: Path, room: str) -> list[str]:
    """Names that must stand nowhere in src, as `line: what`."""
    faults: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        line = getattr(node, "lineno", 0)
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        for banned in ("pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"):
            if any(module.split(".")[0] == banned for module in modules):
                faults.append(f"{line}: imports {banned}")
        if room != "distributed" and (name.startswith("torch.distributed") or any(re.match(r"(torch\.distributed|ray)\b", module) for module in modules)):
            faults.append(f"{line}: names torch.distributed or ray outside distributed/")
        if name == "torch.load":
            faults.append(f"{line}: torch.load")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec", "compile", "__import__"):
            faults.append(f"{line}: calls {node.func.id}")
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code" and not (isinstance(node.value, ast.Constant) and node.value.value is False):
            faults.append(f"{line}: trust_remote_code is not False")
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            faults.append(f"{line}: allow_pickle")
    return faults


def test_src_names_nothing_dangerous():
    faults = []
    for path in sorted((SRC / "penname").rglob("*.py")):
        room = path.relative_to(SRC / "penname").parts[0]
        faults += [f"{path.relative_to(ROOT)}:{fault}" for fault in danger_faults(path, room)]
    assert faults == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(f)",
        "eval(text)",
        "load(trust_remote_code=True)",
        "load(trust_remote_code=flag)",
        "import torch.distributed as dist",
        "x = torch.distributed.get_rank()",
        "from ray import train",
    ],
)
def test_a_dangerous_name_is_noticed(tmp_path: Path, source: str):
    path = tmp_path / "x.py"
    path.write_text(source, encoding="utf-8")
    assert danger_faults(path, "train")


def test_distributed_may_name_what_is_distributed(tmp_path: Path):
    path = tmp_path / "x.py"
    path.write_text("import torch.distributed", encoding="utf-8")
    assert danger_faults(path, "distributed") == []


def our_files() -> list[Path]:
    """What is or would be tracked: everything that git does not ignore."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_the_host_of_a_registry():
    # Written in parts, or this file would name them.
    hosts = [
        f"{name}.{end}" for name, end in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("crates", "io"), ("anaconda", "org"))
    ]
    hosts += ["download.pytorch" + ".org", "--index" + "-url", "--extra-index" + "-url"]
    faults = []
    for path in our_files():
        text = path.read_text(encoding="utf-8", errors="ignore")
        faults += [f"{path.relative_to(ROOT)}: {host}" for host in hosts if host in text]
    assert faults == []


def test_files_are_named_for_their_subject():
    faults = [str(path.relative_to(ROOT)) for path in our_files() if BANNED_NAMES.match(path.stem) or any(BANNED_NAMES.match(part) for part in path.parts[:-1])]
    assert [name for name in faults if not name.startswith("src/penname/ingest/marketplace/phrases/")] == []


def test_test_files_have_names_of_their_own():
    # importlib mode allows two of one name, but people and reports do not tell them apart.
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_functions_fit_on_a_screen():
    faults = []
    for path in sorted((SRC / "penname").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES:
                faults.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {(node.end_lineno or 0) - node.lineno + 1} lines")
    assert faults == []


def test_public_functions_have_docstrings():
    faults = []
    for path in sorted((SRC / "penname").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        public = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")]
        faults += [f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}" for node in public if not ast.get_docstring(node)]
    assert faults == []


HEAVY = ("torch", "transformers", "peft", "pydantic", "numpy", "scipy", "sklearn", "pyarrow", "matplotlib", "dp_accounting", "faker")


@pytest.mark.parametrize("statement", ["import penname.cli", *(f"import penname.{stage}" for stage in sorted(STAGES)), "import penname.config"])
def test_the_outside_of_the_house_is_light(statement: str):
    if not _is_module(SRC, statement.rpartition(".")[2]):
        pytest.skip("this room is not built yet")
    allowed = {"pydantic"} if statement.endswith("config") else set()
    code = f"{statement}\nimport sys\nprint(*sorted(set(sys.modules) & {set(HEAVY)!r}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(loaded) <= allowed


def test_help_answers_without_heavy_libraries():
    code = "import sys\nsys.argv = ['penname', '--help']\nfrom penname.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
    code += f"print('LOADED', *sorted(set(sys.modules) & {set(HEAVY)!r}))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Usage: penname" in output
    assert output.strip().splitlines()[-1] == "LOADED"


def test_every_setting_is_explained():
    from pydantic import BaseModel

    from penname.config import Config

    def unexplained(model: type[BaseModel], prefix: str) -> Iterator[str]:
        for name, field in model.model_fields.items():
            kind: Any = field.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                if not kind.__doc__:
                    yield prefix + name
                yield from unexplained(kind, f"{prefix}{name}.")
            elif not field.description:
                yield prefix + name

    assert list(unexplained(Config, "")) == []


def _modules_with_doctests() -> list[str]:
    files = (path for path in sorted((SRC / "penname").rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8"))
    return [".".join(path.relative_to(SRC).with_suffix("").parts) for path in files]


def test_there_are_doctests():
    assert "penname.privacy.clipping" in _modules_with_doctests()


@pytest.mark.parametrize("name", _modules_with_doctests())
def test_examples_in_docstrings_hold(name: str):
    import doctest

    failed, tried = doctest.testmod(importlib.import_module(name), extraglobs=_doctest_names(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried > 0
    assert failed == 0


def _doctest_names(name: str) -> dict[str, Any]:
    if name.startswith("penname.privacy."):
        import torch

        return {"torch": torch}
    return {}


def test_the_manual_of_the_command_line_is_what_help_says():
    assert _load("docs/write_cli.py").render_manual() == (ROOT / "docs/cli.md").read_text(encoding="utf-8"), "run `make docs`"


def _load(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_the_run_folder_lists_every_artefact():
    from penname.run_dir import ARTEFACTS, AUDIT_ARTEFACTS

    rows = re.findall(r"^\| `([^`]+)` \| (PRIVATE|RELEASABLE) \|", (ROOT / "docs/run-folder.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    listed = {path.rstrip("/"): visibility for path, visibility in rows}
    assert len(listed) == len(rows), "a path is listed twice"
    assert {artefact.path: artefact.visibility for artefact in (ARTEFACTS | AUDIT_ARTEFACTS).values()}.items() <= listed.items()


def test_the_page_of_the_certificate_explains_every_key(tmp_path: Path):
    from penname.privacy.certificate import build_certificate
    from penname.privacy.keystream import Keystream
    from penname.privacy.ledger import Ledger, Promise

    promise = Promise(target_epsilon=8.0, delta=1e-5, privacy_unit="user", neighboring_relation="ADD_OR_REMOVE_ONE", noise_source="operating_system")
    ledger = Ledger.open(tmp_path / "ledger.jsonl", promise)
    event = {"type": "gaussian", "noise_multiplier": 10.0, "l2_sensitivity": 1.0}
    ledger.spend("count_units", event, keystream=Keystream(bytes(32), source="operating_system"), inputs_sha256="0" * 64)
    certificate = build_certificate(ledger, assumed_public=[], files={}, self_checks=[], versions={}, machine="")
    keys = {"schema_version", "sha256", *certificate, *vars(promise), *ledger.entries[0], *event, "sampling_prob", "num_steps"}
    page = (ROOT / "docs/certificate.md").read_text(encoding="utf-8")
    assert sorted(key for key in keys if f"`{key}`" not in page) == []


MARKDOWN = sorted(path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *SRC.rglob("*.md")])


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_pages_resolve(page: Path):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


def test_the_readme_names_files_that_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:src|docs|configs|tests|benchmarks|lock)/[\w./-]*)`", text)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
    rooms = re.search(r"```\nsrc/penname/\n(.*?)```", text, flags=re.DOTALL)
    assert rooms is not None
    listed = set(re.findall(r"^  ([\w.]+)/? ", rooms.group(1), flags=re.MULTILINE))
    present = {path.name for path in (SRC / "penname").iterdir() if not path.name.startswith("__")}
    assert listed == present


@pytest.mark.parametrize("page", ["README.md", "docs/ingest.md"])
def test_configs_in_the_docs_are_valid(page: str):
    import yaml

    from penname.config import Config

    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        Config.model_validate(yaml.safe_load(block))


def test_the_map_of_the_privacy_core_names_functions_and_tests_that_exist():
    page = SRC / "penname/privacy/README.md"
    text = page.read_text(encoding="utf-8")
    assert {path.name for path in page.parent.glob("*.py")} - {"__init__.py"} == set(re.findall(r"`(\w+\.py)`", text))
    functions = re.findall(r"`(\w+\.py):([\w.]+)`", text)
    assert functions
    missing = [f"{file}:{name}" for file, name in functions if name not in _defined_names(page.parent / file)]
    tests = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert tests
    missing += [f"{file}::{name}" for file, name in tests if not (ROOT / file).is_file() or (name and name not in _defined_names(ROOT / file))]
    assert missing == []


def _defined_names(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)} if isinstance(node, ast.ClassDef) else set()
    return names
