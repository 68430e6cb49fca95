"""Writes texts with the continuous batching of transformers, in the benchmark's own environment."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from writing_orders import Text, Write, serve


def load(work: dict[str, Any]) -> tuple[Write, dict[str, Any]]:
    """bf16, paged attention by torch; every text has its own length, prompts share their beginning."""
    import torch
    from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

    torch.set_num_threads(work["threads"])
    model: Any = AutoModelForCausalLM.from_pretrained(work["model"], dtype=getattr(torch, work["precision"]), attn_implementation="paged|sdpa")
    rules = GenerationConfig(
        do_sample=True, temperature=work["temperature"], top_p=work["top_p"], top_k=0, suppress_tokens=work["suppressed"], max_new_tokens=work["longest_text"]
    )
    # Room for the longest text in every place; without a number it takes most of the memory of the machine.
    page = 32
    blocks = work["batch_size"] * -(-work["longest"] // page) + 8
    batching = ContinuousBatchingConfig(
        page_size=page, num_blocks=blocks, max_batch_tokens=max(256, work["batch_size"]), max_requests_per_batch=work["batch_size"], use_cuda_graph=False
    )

    def write(texts: list[Text]) -> list[list[int]]:
        # One seed for the whole call: there is none for a text.
        batching.seed = texts[0]["seed"]
        result: list[list[int]] = [[] for _ in texts]
        with model.continuous_batching_context_manager(generation_config=rules, continuous_batching_config=batching, block=True) as manager:
            places: dict[str, int] = {}
            for place, text in enumerate(texts):
                places[manager.add_request(text["prompt"], request_id=str(place), max_new_tokens=text["length"], eos_token_id=-1)] = place
            left = len(texts)
            while left:
                answer = manager.get_result(timeout=1)
                if answer is None:
                    if not manager.is_running():
                        raise RuntimeError("the thread that generates has ended")
                elif answer.is_finished():
                    if answer.error is not None:
                        raise RuntimeError(answer.error)
                    result[places[answer.request_id]] = list(answer.generated_tokens)
                    left -= 1
        return result

    return write, {"version": version("transformers"), "precision": work["precision"], "seeds": "one a call"}


if __name__ == "__main__":
    serve(load)
