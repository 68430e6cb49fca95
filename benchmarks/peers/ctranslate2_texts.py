"""Writes texts with CTranslate2, in its own environment."""

# pyright: reportMissingImports=false
# Its packages stand in an environment of its own.

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from writing_orders import Text, Write, convert_once, serve, sort_into_batches


def load(work: dict[str, Any]) -> tuple[Write, dict[str, Any]]:
    """The model converted to float32, which `compute_type` may shrink while loading; texts leave the batch by the callback."""
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    folder = Path(work["scratch"]) / "ctranslate2"
    convert_secs = convert_once(folder, lambda target: TransformersConverter(work["model"]).convert(str(target), quantization="float32"))
    names = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
    generator = ctranslate2.Generator(str(folder), device="cpu", compute_type=work["precision"], intra_threads=work["threads"], inter_threads=1)
    suppressed = [[names[token]] for token in work["suppressed"]]

    def write_batch(texts: list[Text]) -> list[list[int]]:
        longest = max(text["length"] for text in texts)
        # One seed for the whole call: there is none for a text.
        ctranslate2.set_random_seed(texts[0]["seed"])
        written: list[list[int]] = [[] for _ in texts]

        def is_ended(step: Any) -> bool:
            written[step.batch_id].append(step.token_id)
            return len(written[step.batch_id]) >= texts[step.batch_id]["length"]

        generator.generate_batch(
            [[names[token] for token in text["prompt"]] for text in texts],
            max_length=longest,
            min_length=longest,
            sampling_topk=0,
            sampling_topp=work["top_p"],
            sampling_temperature=work["temperature"],
            include_prompt_in_result=False,
            suppress_sequences=suppressed,
            callback=is_ended,
        )
        return written

    def write(texts: list[Text]) -> list[list[int]]:
        result: list[list[int]] = [[] for _ in texts]
        for batch in sort_into_batches(texts, work["batch_size"]):
            for place, token_ids in zip(batch, write_batch([texts[i] for i in batch]), strict=True):
                result[place] = token_ids
        return result

    return write, {"version": version("ctranslate2"), "precision": generator.compute_type, "convert_secs": convert_secs, "seeds": "one a call"}


if __name__ == "__main__":
    serve(load)
