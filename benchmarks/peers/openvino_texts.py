"""Writes texts with OpenVINO GenAI, in its own environment."""

# pyright: reportMissingImports=false
# Its packages stand in an environment of its own.

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from writing_orders import Text, Write, convert_once, serve


def load(work: dict[str, Any]) -> tuple[Write, dict[str, Any]]:
    """Continuous batching with paged attention; weights converted to float16 or int8, products in the precision asked for."""
    import numpy as np
    import openvino as ov
    import openvino_genai as genai

    folder = Path(work["scratch"]) / f"openvino_{work.get('weights', 'float16')}"
    convert_secs = convert_once(folder, lambda target: _convert(work, target))
    schedule = genai.SchedulerConfig()
    schedule.max_num_seqs = work["batch_size"]
    schedule.max_num_batched_tokens = max(256, work["batch_size"])
    schedule.cache_size = 2
    schedule.dynamic_split_fuse = True
    schedule.enable_prefix_caching = True
    kinds = {"bfloat16": ov.Type.bf16, "float32": ov.Type.f32}
    options = {"INFERENCE_PRECISION_HINT": kinds[work["precision"]], "INFERENCE_NUM_THREADS": work["threads"], "KV_CACHE_PRECISION": kinds[work["precision"]]}
    pipe = genai.ContinuousBatchingPipeline(folder, schedule, "CPU", options)

    def rules_for(text: Text) -> Any:
        rules = genai.GenerationConfig()
        rules.do_sample, rules.temperature, rules.top_p, rules.top_k = True, work["temperature"], work["top_p"], 0
        rules.rng_seed, rules.ignore_eos, rules.max_new_tokens = text["seed"], True, text["length"]
        return rules

    def write(texts: list[Text]) -> list[list[int]]:
        prompts = [ov.Tensor(np.array([text["prompt"]], dtype=np.int64)) for text in texts]
        return [list(answer.m_generation_ids[0]) for answer in pipe.generate(prompts, [rules_for(text) for text in texts])]

    facts = {"version": version("openvino-genai"), "precision": f"{work['precision']}, weights {work.get('weights', 'float16')}", "seeds": "one a text"}
    return write, {**facts, "convert_secs": convert_secs}


def _convert(work: dict[str, Any], target: Path) -> None:
    from openvino import save_model
    from openvino_tokenizers import convert_tokenizer
    from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig
    from transformers import AutoTokenizer

    more = {"quantization_config": OVWeightQuantizationConfig(bits=8)} if work.get("weights") == "int8" else {"load_in_8bit": False}
    OVModelForCausalLM.from_pretrained(work["model"], export=True, compile=False, **more).save_pretrained(target)
    tokenizer = AutoTokenizer.from_pretrained(work["model"])
    tokenizer.save_pretrained(target)
    # The pipeline does not open without one, even where it is given tokens.
    for name, model in zip(("tokenizer", "detokenizer"), convert_tokenizer(tokenizer, with_detokenizer=True), strict=True):
        save_model(model, target / f"openvino_{name}.xml")


if __name__ == "__main__":
    serve(load)
