"""The same rounds as on a processor without AMX: a child process whose oneDNN may use AVX-512 with bfloat16, and nothing newer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from resumable import describe_machine

_SCRIPT = Path(__file__).with_name("training.py")
_ENVIRONMENT = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}


def has_amx() -> bool:
    """Whether this processor has tiles for bfloat16."""
    return "amx_bf16" in describe_machine().get("flags", [])


def measure_without_amx(number: int, *, real_file: Path, best: dict[str, int], seed: int) -> list[dict[str, float]]:
    """Two rounds, real tokens a second of every way but ghost clipping.

    Args:
      number: Of this measurement; draws the order of the ways.
      real_file: The clothing reviews.
      best: Batch sizes of Opacus and of the original.
      seed: Of the records and weights.
    Raises:
      RuntimeError: the child ended with an error; its last line.
    """
    arguments: list[Any] = ["--print-rounds", number, "--best", json.dumps(best), "--real", real_file, "--seed", seed]
    done = subprocess.run(  # noqa: S603
        [sys.executable, str(_SCRIPT), *map(str, arguments)], env=os.environ | _ENVIRONMENT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])
