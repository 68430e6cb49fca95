"""Writes texts with llama.cpp's server inside a process (xllamacpp), in its own environment."""

# pyright: reportMissingImports=false
# Its packages stand in an environment of its own.

from __future__ import annotations

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from writing_orders import Text, Write, convert_once, serve


def load(work: dict[str, Any]) -> tuple[Write, dict[str, Any]]:
    """A slot for every text at once, continuous batching; every text has its own seed and length."""
    import xllamacpp

    folder = Path(work["scratch"]) / f"llama_cpp_{work['precision']}"
    convert_secs = convert_once(folder, lambda target: _convert(work, target))
    params = xllamacpp.CommonParams()
    params.model.path = str(folder / "model.gguf")
    params.n_parallel = work["batch_size"]
    params.n_ctx = work["batch_size"] * (-(-(work["longest"] + 8) // 32) * 32)
    params.n_batch = params.n_ubatch = max(512, work["batch_size"])
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = work["threads"]
    params.n_threads_http = work["batch_size"] + 2
    params.cont_batching, params.cache_prompt, params.cache_ram_mib = True, True, 0
    params.enable_chat_template = False
    server = xllamacpp.Server(params)
    suppressed = [[token, False] for token in work["suppressed"]]

    def write_one(text: Text) -> list[int]:
        order = {
            "prompt": text["prompt"],
            "n_predict": text["length"],
            "seed": text["seed"],
            "temperature": work["temperature"],
            "top_p": work["top_p"],
            "top_k": 0,
            "min_p": 0.0,
            "samplers": ["top_p", "temperature"],
            "ignore_eos": True,
            "logit_bias": suppressed,
            "return_tokens": True,
            "cache_prompt": True,
        }
        # By the loopback, since a call from Python keeps other threads of Python waiting.
        where = f"{server.listening_address}/completion"
        request = urllib.request.Request(where, json.dumps(order).encode(), {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            return json.load(answer)["tokens"]

    def write(texts: list[Text]) -> list[list[int]]:
        with ThreadPoolExecutor(len(texts)) as pool:
            return list(pool.map(write_one, texts))

    facts = {"version": version("xllamacpp"), "precision": work["precision"], "convert_secs": convert_secs, "seeds": "one a text"}
    return write, {**facts, "instructions": xllamacpp.get_system_info().strip()}


def _convert(work: dict[str, Any], target: Path) -> None:
    """A GGUF with our weights and the vocabulary and settings of the one that the model came in; llama.cpp keeps queries and keys in another order."""
    import gguf
    from safetensors import safe_open

    kind = {"bfloat16": gguf.GGMLQuantizationType.BF16, "float16": gguf.GGMLQuantizationType.F16, "int8": gguf.GGMLQuantizationType.Q8_0}[work["precision"]]
    config = json.loads((Path(work["model"]) / "config.json").read_text(encoding="utf-8"))
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    target.mkdir()
    writer = gguf.GGUFWriter(target / "model.gguf", "llama")
    for field in gguf.GGUFReader(work["gguf"]).fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type", "general.quantization_version"):
            continue
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    with safe_open(Path(work["model"]) / "model.safetensors", "pt") as weights:
        for name in weights.keys():  # noqa: SIM118
            theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
            data = weights.get_tensor(name).float().numpy()
            num_heads = heads.get(theirs.split(".")[-2])
            if num_heads:
                data = data.reshape(num_heads, 2, len(data) // num_heads // 2, -1).swapaxes(1, 2).reshape(data.shape)
            if data.ndim == 1:
                writer.add_tensor(theirs, data)
            else:
                writer.add_tensor(theirs, gguf.quants.quantize(data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    serve(load)
