"""What would it cost to choose a setting on the private data itself? Random stopping pays for the choice; what it leaves for the training is computed here.

The best of a random number of trainings is released (Papernot and Steinke, 2021, https://arxiv.org/abs/2110.03620), and all of it together keeps epsilon 8.
Each training then has more noise. Its size is that of `tuning.py`: 13,750 units, batches of 550, 36 steps, delta 1e-5. What the noise costs is read off the
nats that `results/tuning.json` has for the same training at epsilon 8, 4 and 1, between them in proportion to the logarithm of epsilon. No model is needed.

  python benchmarks/selection.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from pathlib import Path
from typing import Any

import dp_accounting
import numpy as np
from dp_accounting import dp_event, rdp
from resumable import describe_machine, replace_between_markers, write_atomically
from sample_data_variety import environment

from penname.privacy.accounting import compute_epsilon

ROOT = Path(__file__).resolve().parents[1]
RESULT_FILE = ROOT / "benchmarks" / "results" / "selection.json"
TUNING_FILE = ROOT / "benchmarks" / "results" / "tuning.json"
DOCUMENT = ROOT / "docs" / "tuning.md"
PACKAGES = ("penname", "dp-accounting", "numpy")
NUM_UNITS, BATCH, NUM_STEPS, DELTA, EPSILON = 13_750, 550, 36, 1e-5, 8.0
# Of the number of trainings: geometric, and logarithmic, which often stops at once.
SHAPES = {"geometric": 1.0, "logarithmic": 0.0}
MEANS = (2, 3, 5, 10, 30)
_HALVINGS = 30


def spend_on_selection(noise_multiplier: float, mean: float, shape: float) -> float:
    """Epsilon of the best of a random number of trainings."""
    step = dp_accounting.PoissonSampledDpEvent(BATCH / NUM_UNITS, dp_accounting.GaussianDpEvent(noise_multiplier))
    event = dp_event.RepeatAndSelectDpEvent(dp_accounting.SelfComposedDpEvent(step, NUM_STEPS), mean, shape)
    accountant = rdp.RdpAccountant(neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    return float(accountant.compose(event).get_epsilon(DELTA))


def find_noise(mean: float, shape: float) -> float:
    """The least noise multiplier at which the selection keeps the promise."""
    low, high = 0.3, 50.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if spend_on_selection(middle, mean, shape) > EPSILON else (low, middle)
    return high


def spend_once(noise_multiplier: float) -> float:
    """Epsilon of one such training, as penname accounts for it."""
    event = {"type": "poisson_sampled_gaussian", "noise_multiplier": noise_multiplier, "l2_sensitivity": 1.0}
    return compute_epsilon([{**event, "sampling_prob": BATCH / NUM_UNITS, "num_steps": NUM_STEPS}], delta=DELTA)


def read_nats() -> dict[float, float]:
    """Epsilon -> nats a token after training on the marketplace; and infinity in place of none: before it."""
    results = json.loads(TUNING_FILE.read_text(encoding="utf-8"))["results"]
    names = {8.0: "base/all", 4.0: f"units/{NUM_UNITS}_epsilon_4", 1.0: f"units/{NUM_UNITS}_epsilon_1"}
    return {epsilon: results[name]["result"]["nats"] for epsilon, name in names.items()}


def guess_nats(epsilon: float, nats: dict[float, float]) -> float:
    """Between the epsilons that were measured; at the smallest of them for what is below."""
    known = sorted(nats)
    return float(np.interp(math.log(epsilon), [math.log(one) for one in known], [nats[one] for one in known]))


def measure(means: tuple[int, ...]) -> list[dict[str, Any]]:
    """A row for every law and mean number of trainings."""
    nats, rows = read_nats(), list[dict[str, Any]]()
    for law, shape in SHAPES.items():
        for mean in means:
            noise_multiplier = find_noise(mean, shape)
            left = spend_once(noise_multiplier)
            rows.append(
                {
                    "law": law,
                    "mean_trainings": mean,
                    "noise_multiplier": round(noise_multiplier, 4),
                    "epsilon_of_each": round(left, 3),
                    "nats_lost": round(guess_nats(left, nats) - nats[8.0], 4),
                }
            )
    return rows


def format_rows(rows: list[dict[str, Any]]) -> list[str]:
    """The table of docs/tuning.md."""
    lines = ["| number of trainings | on average | epsilon of each | noise multiplier | nats lost to the noise |", "| --- | --- | --- | --- | --- |"]
    return lines + [
        f"| {row['law']} | {row['mean_trainings']} | {row['epsilon_of_each']:.2f} | {row['noise_multiplier']:.3f} | {row['nats_lost']:.3f} |" for row in rows
    ]


def main() -> int:
    """Computes, writes result and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rows, no result file")
    args = parser.parse_args()
    # Orders that the accountant leaves out are none of the reader's business: the bound of the others holds.
    logging.getLogger("absl").setLevel(logging.ERROR)
    rows = measure(MEANS[:1] if args.quick else MEANS)
    if not args.quick:
        result = {"script": "benchmarks/selection.py", **environment(PACKAGES), **describe_machine(), "delta": DELTA, "epsilon": EPSILON, "rows": rows}
        write_atomically(RESULT_FILE, json.dumps(result, indent=2) + "\n")
        replace_between_markers(DOCUMENT, "selection:cost", format_rows(rows))
    print(json.dumps({f"epsilon_of_each_{row['law']}_{row['mean_trainings']}": row["epsilon_of_each"] for row in rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
