"""How fast is private training, against no privacy, Opacus, the original's recipe, other programs, and the matrix products alone?

SmolLM2-135M, LoRA of rank 8 on all linear layers of all layers, records of the lengths of the clothing reviews. Figures are real tokens a
second of whole optimizer steps. In a round every way takes one step, in a drawn order, in one process; a ratio is the median over rounds of the
ratio within a round. Where the processor has AMX, rounds are measured once more with oneDNN told to leave it alone. Work is kept task by task
in runs/benchmarks/training.json until the code changes: a run that was stopped, or ended by --max-minutes, goes on where it was.

  python benchmarks/training.py [--quick] [--seed S] [--real FILE] [--only PART ...] [--max-minutes M]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from resumable import WORK_IS_LEFT, Task, add_arguments, describe_machine, do_tasks, hash_files, read_kept, write_atomically
from sample_data_variety import REAL_FILE, environment

ROOT = Path(__file__).resolve().parents[1]
RESULT_FILE = ROOT / "benchmarks" / "results" / "training.json"
PARTIAL_FILE = ROOT / "runs" / "benchmarks" / "training.json"
PACKAGES = ("penname", "torch", "transformers", "peft", "opacus")

NUM_DATA_UNITS = 2000
HOOKS_TOKENS = (512, 1024, 2048, 4096)
ORIGINAL_SIZES = (2, 8, 16)
# What the original needs at a batch of 16, measured: see the field notes.
_ORIGINAL_BYTES_A_RECORD = 0.9e9
WAYS = ("no_dp", "lora", "opacus_hooks", "opacus_ghost", "original", "roofline")
# A step of DP-SGD takes many units where one can: noise is added once a step.
LARGE_STEP_UNITS = 64
LARGE_STEP_WAYS = ("no_dp", "lora", "original", "roofline")
# These take minutes for what the others do in seconds; a part of the step tells their speed as well.
_SLOW_WAYS = ("opacus_ghost", "original")


class Bench:
    """What is built at most once a process, and only when a task needs it."""

    def __init__(self, *, seed: int, real_file: Path, quick: bool) -> None:
        self.seed, self.real_file, self.quick = seed, real_file, quick
        self.num_units = 6 if quick else 24
        self.few_units = 2 if quick else 8
        self.best: dict[str, int] = {"opacus": 1024, "original": 2}

    @cache  # noqa: B019
    def units(self) -> list[Any]:
        """Units of the data set, one record each; a step takes the first of them."""
        from training_workload import draw_records

        return [[record] for record in draw_records(self.real_file, NUM_DATA_UNITS, seed=self.seed)]

    @cache  # noqa: B019
    def way(self, name: str) -> Any:
        """A way to train, built and warm."""
        from training_ways import OpacusWay, OriginalWay, PennameWay, Roofline

        builds: dict[str, Callable[[], Any]] = {
            "no_dp": lambda: PennameWay("no_dp", seed=self.seed),
            "lora": lambda: PennameWay("lora", seed=self.seed),
            "opacus_hooks": lambda: OpacusWay("hooks", physical_tokens=self.best["opacus"], seed=self.seed),
            "opacus_ghost": lambda: OpacusWay("ghost", physical_tokens=self.best["opacus"], seed=self.seed),
            "original": lambda: OriginalWay(seed=self.seed),
            "roofline": lambda: Roofline(self.way("lora").layout),
        }
        way = builds[name]()
        way.step(self.units()[:1])
        return way

    def run_round(self, number: int, names: Sequence[str] = WAYS, num_units: int | None = None) -> dict[str, float]:
        """One step of every way, real tokens a second; `num_units` stands in for the usual number of units of a step."""
        from training_studies import time_steps

        ways = {name: self.way(name) for name in names}
        for name, way in ways.items():
            if name.startswith("opacus"):
                way.physical_tokens = self.best["opacus"]
            elif name == "original":
                way.batch_size = self.best["original"]
        units = {name: self.units()[: self.count_units(name, num_units)] for name in names}
        return time_steps(ways, units, seed=self.seed + number)

    def count_units(self, name: str, num_units: int | None = None) -> int:
        """Units of a step of this way: enough of them to fill a batch."""
        few = max(self.few_units, self.best["original"]) if name == "original" else self.few_units
        return few if name in _SLOW_WAYS else num_units or self.num_units

    def try_hooks(self, physical_tokens: int) -> float:
        """Speed of Opacus' hooks with physical batches of this size."""
        from training_studies import time_steps

        way = self.way("opacus_hooks")
        way.physical_tokens = physical_tokens
        return time_steps({"it": way}, {"it": self.units()[: self.num_units]}, seed=self.seed)["it"]

    def try_original(self, batch_size: int) -> float | None:
        """Speed of the original's recipe with batches of this size; None where memory does not allow it."""
        from training_studies import time_steps

        if free_bytes() < batch_size * _ORIGINAL_BYTES_A_RECORD:
            return None
        way = self.way("original")
        way.batch_size = batch_size
        return time_steps({"it": way}, {"it": self.units()[: max(self.few_units, batch_size)]}, seed=self.seed)["it"]

    def describe_workload(self) -> dict[str, Any]:
        """Of a step."""
        from training_workload import describe_workload

        return describe_workload(self.units()[: self.num_units], self.real_file)


def free_bytes() -> float:
    """Memory that a new process could have; infinite where the system does not say."""
    meminfo = Path("/proc/meminfo")
    for line in meminfo.read_text(encoding="utf-8").splitlines() if meminfo.is_file() else []:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024.0
    return float("inf")


def list_tasks(bench: Bench) -> dict[str, Task]:
    """Every piece of work by its name, part/piece, in the order in which it is done."""
    from training_memory import CASES as MEMORY_CASES
    from training_memory import measure_memory
    from training_without_amx import has_amx, measure_without_amx

    quick, seed = bench.quick, bench.seed
    tasks: dict[str, Task] = {"workload/step": bench.describe_workload}
    if not quick:
        tasks |= {f"choice/opacus_{tokens}": partial(bench.try_hooks, tokens) for tokens in HOOKS_TOKENS}
        tasks |= {f"choice/original_{size}": partial(bench.try_original, size) for size in ORIGINAL_SIZES}
    tasks |= {f"speed/{number}": partial(bench.run_round, number) for number in range(2 if quick else 8)}
    if not quick:
        tasks |= {f"large_steps/{number}": partial(bench.run_round, number, LARGE_STEP_WAYS, LARGE_STEP_UNITS) for number in range(6)}
    if not quick and has_amx():
        settings: dict[str, Any] = {"real_file": bench.real_file, "best": bench.best, "seed": seed}
        tasks |= {f"without_amx/{number}": partial(measure_without_amx, number, **settings) for number in range(2)}
    tasks["padding/default"] = lambda: _studies().measure_padding(bench.units(), seed=seed)
    tasks["self_check/clothing"] = lambda: _studies().measure_self_check(bench.units(), num_repeats=1 if quick else 2, seed=seed)
    steps, width = (2, 2) if quick else (8, 6)
    tasks["agreement/curves"] = lambda: _studies().compare_curves(bench.units(), num_steps=steps, units_a_step=width, seed=seed)
    cases = {name: MEMORY_CASES[name] for name in (("with_dp_few_units",) if quick else MEMORY_CASES)}
    tasks |= {f"memory/{name}": partial(measure_memory, case, bench.real_file) for name, case in cases.items()}
    tasks |= _peer_tasks(bench)
    if not quick:
        tasks["profile/lora"] = lambda: _studies().profile_step(bench.way("lora"), bench.units()[:12])
        for name, values in _studies().SCALES.items():
            tasks |= {f"scale_{name}/{v}": lambda n=name, v=v: _studies().measure_scale(n, v, bench.units(), num_repeats=2, seed=seed) for v in values}
    return tasks


def _peer_tasks(bench: Bench) -> dict[str, Task]:
    from training_peers import CASES, has_environment, measure_peer

    if bench.quick:
        names = [name for name in ("dptrainer_hooks_2", "mostlyai_2") if has_environment(CASES[name])]
    else:
        names = list(CASES)

    def measure(name: str) -> dict[str, Any]:
        records = [unit[0] for unit in bench.units()[:256]]
        return measure_peer(CASES[name], records, num_steps=2 if bench.quick else 3, seed=bench.seed)

    return {f"peers/{name}": partial(measure, name) for name in names}


def _studies() -> Any:
    import training_studies

    return training_studies


def hash_code() -> str:
    """Of what the figures depend on: the training path and this benchmark."""
    code = [file for room in ("privacy", "model", "train") for file in (ROOT / "src" / "penname" / room).rglob("*.py")]
    return hash_files([*code, *(file for file in Path(__file__).parent.glob("training*.py") if file.name != "training_tables.py")])


def choose_best(bench: Bench, results: dict[str, Any]) -> None:
    """The batch size at which Opacus, and the original, were fastest so far."""
    for name in bench.best:
        tried = {int(task.rpartition("_")[2]): entry["result"] for task, entry in results.items() if task.startswith(f"choice/{name}_")}
        speeds = {size: speed for size, speed in tried.items() if isinstance(speed, float)}
        if speeds:
            bench.best[name] = max(speeds, key=lambda size: speeds[size])


def print_rounds(bench: Bench, number: int) -> None:
    """Two rounds as JSON: what `measure_without_amx` asks of its child."""
    print(json.dumps([bench.run_round(2 * number + turn, [way for way in WAYS if way != "opacus_ghost"]) for turn in range(2)]))


def main() -> None:
    """Measures, writes result file, plots and table, prints the ratios as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small part of it in under ten minutes, and no result file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", type=Path, default=REAL_FILE)
    parser.add_argument("--print-rounds", type=int, metavar="N", help=argparse.SUPPRESS)
    parser.add_argument("--best", type=json.loads, default={}, help=argparse.SUPPRESS)
    add_arguments(parser, parts="choice, speed, large_steps, without_amx, padding, self_check, agreement, memory, peers, profile, scale_*")
    args = parser.parse_args()
    if not args.real.is_file():
        print(f"{args.real}: is missing; made-up records of the same lengths are used instead", file=sys.stderr)
    from training_tables import draw_figures, summarize, write_tables

    bench = Bench(seed=args.seed, real_file=args.real, quick=args.quick)
    bench.best |= args.best
    if args.print_rounds is not None:
        print_rounds(bench, args.print_rounds)
        return
    identity = {"code_sha256": hash_code(), "seed": args.seed, "has_real": args.real.is_file()}
    results = {} if args.quick else read_kept(PARTIAL_FILE, identity)

    def keep() -> None:
        if not args.quick:
            write_atomically(PARTIAL_FILE, json.dumps({"identity": identity, "results": results}, indent=1))

    left = do_tasks(list_tasks(bench), results, only=args.only, max_minutes=args.max_minutes, keep=keep, before_each=lambda: choose_best(bench, results))
    summary = summarize({name: entry["result"] for name, entry in results.items()}, best=bench.best)
    if left:
        print(f"left to do: {len(left)} tasks, next {left[0]}; run again to go on", file=sys.stderr)
    elif not args.quick and not args.only:
        whole = {"script": "benchmarks/training.py", **environment(PACKAGES), "cpu": describe_machine(), **identity, **summary, "tasks": results}
        write_atomically(RESULT_FILE, json.dumps(whole, indent=2) + "\n")
        draw_figures(whole)
        write_tables(whole)
    print(json.dumps(summary["ratios"]))
    sys.exit(WORK_IS_LEFT if left else 0)


if __name__ == "__main__":
    main()
