"""Writes texts with ONNX Runtime GenAI, in its own environment."""

# pyright: reportMissingImports=false
# Its packages stand in an environment of its own.

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from writing_orders import Text, Write, convert_once, serve, sort_into_batches

_KINDS = {"float32": "fp32", "bfloat16": "bf16", "int4": "int4"}


def load(work: dict[str, Any]) -> tuple[Write, dict[str, Any]]:
    """The model as its builder makes it for processors. A batch waits for its longest text."""
    import numpy as np
    import onnxruntime_genai as og

    kind = _KINDS[work["precision"]]
    folder = Path(work["scratch"]) / f"onnxruntime_{kind}"
    convert_secs = convert_once(folder, lambda target: _convert(work, kind, target))
    model = og.Model(str(folder))
    filling_id = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]["pad_token_id"]

    def write_batch(texts: list[Text]) -> list[list[int]]:
        longest = max(len(text["prompt"]) for text in texts)
        steps = max(text["length"] for text in texts)
        rules = og.GeneratorParams(model)
        rules.set_search_options(
            batch_size=len(texts),
            do_sample=True,
            temperature=work["temperature"],
            top_p=work["top_p"],
            top_k=0,
            # One seed for the whole call: there is none for a text.
            random_seed=texts[0]["seed"],
            min_length=longest + steps,
            max_length=longest + steps,
        )
        generator = og.Generator(model, rules)
        rows = [[filling_id] * (longest - len(text["prompt"])) + text["prompt"] for text in texts]
        generator.append_tokens(np.array(rows, dtype=np.int32))
        written: list[list[int]] = [[] for _ in texts]
        for _ in range(steps):
            generator.generate_next_token()
            for row, token in zip(written, generator.get_next_tokens(), strict=True):
                row.append(int(token))
        return [row[: text["length"]] for row, text in zip(written, texts, strict=True)]

    def write(texts: list[Text]) -> list[list[int]]:
        result: list[list[int]] = [[] for _ in texts]
        for batch in sort_into_batches(texts, work["batch_size"]):
            for place, token_ids in zip(batch, write_batch([texts[i] for i in batch]), strict=True):
                result[place] = token_ids
        return result

    return write, {"version": version("onnxruntime-genai"), "precision": work["precision"], "convert_secs": convert_secs, "seeds": "one a call"}


def _convert(work: dict[str, Any], kind: str, target: Path) -> None:
    options = ["-i", work["model"], "-o", str(target), "-p", kind, "-e", "cpu", "-c", str(Path(work["scratch"]) / "onnxruntime_cache")]
    subprocess.run([sys.executable, "-m", "onnxruntime_genai.models.builder", *options], check=True, stdout=sys.stderr)  # noqa: S603
    file = target / "genai_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["model"]["decoder"].setdefault("session_options", {})["intra_op_num_threads"] = work["threads"]
    file.write_text(json.dumps(settings), encoding="utf-8")


if __name__ == "__main__":
    serve(load)
