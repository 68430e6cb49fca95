"""The decoder of vLLM, for a GPU: the same texts' law, drawn by vLLM's own sampler, so other texts than ours from the same seed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penname.errors import ModelError
from penname.generate.decode import Decoded, NextDraw, OnText, Request, Rules

# Finished texts are handed over after every piece, and vLLM is kept busy within one.
_PIECE_FACTOR = 4
_NEVER = -100.0


class VllmDecoder:
    """Texts by `vllm.LLM.generate`, with a seed for each text."""

    def __init__(self, engine: Any, sampling_params: Any, rules: Rules, *, num_slots: int) -> None:
        """Is made by `open`."""
        self._engine, self._sampling_params, self._rules = engine, sampling_params, rules
        self._piece = _PIECE_FACTOR * num_slots

    @classmethod
    def open(cls, model: Any, tokenizer: Any, rules: Rules, *, num_slots: int, longest: int, scratch: Path) -> VllmDecoder:
        """Writes the merged model where vLLM can read it, and starts vLLM.

        Args:
          model: Without an adapter.
          tokenizer: Of the model.
          rules: How texts are drawn.
          num_slots: Texts at once at most.
          longest: Tokens of the longest prompt and text together.
          scratch: A folder for the merged model, which is removed again.
        Raises:
          ModelError: vLLM is not installed, or cannot start with this model.
        """
        check_vllm()
        import vllm  # pyright: ignore[reportMissingImports]  an extra

        # vLLM has read the weights when it is made; those of the arm without privacy must not lie about any longer than that.
        with tempfile.TemporaryDirectory(prefix=".vllm-", dir=scratch) as folder:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            precision = str(model.dtype).removeprefix("torch.")
            try:
                engine = vllm.LLM(model=folder, dtype=precision, max_model_len=longest, max_num_seqs=num_slots, enable_prefix_caching=True)
            except (RuntimeError, ValueError, OSError) as error:
                reason = str(error).splitlines()[0][:200]
                raise ModelError(f"generate.engine: vllm cannot start with this model ({reason}); set generate.engine=penname") from None
        return cls(engine, vllm.SamplingParams, rules, num_slots=num_slots)

    def decode(self, requests: Sequence[Request], on_text: OnText, *, prefix: Sequence[int] = (), next_draw: NextDraw | None = None) -> None:
        """See `Decoder`; vLLM finds shared beginnings itself. What is drawn again waits for the next piece, and nothing is written ahead."""
        waiting = list(requests)
        while waiting:
            piece, waiting = waiting[: self._piece], waiting[self._piece :]
            prompts = [{"prompt_token_ids": list(request.prompt)} for request in piece]
            outputs = self._engine.generate(prompts, [self._params(request) for request in piece], use_tqdm=False)
            for request, output in zip(piece, outputs, strict=True):
                again = on_text(request, self._read(output.outputs[0]))
                if again is not None:
                    waiting.append(again)

    def _params(self, request: Request) -> Any:
        sampling = self._rules.sampling
        return self._sampling_params(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            max_tokens=sampling.max_new_tokens,
            # The whole key in 63 bits: two texts with one seed and one prompt would be one text.
            seed=int(np.random.SeedSequence(request.key).generate_state(1, np.uint64)[0] >> np.uint64(1)),
            stop_token_ids=[self._rules.eos_id],
            stop=[self._rules.end] if self._rules.end else None,
            include_stop_str_in_output=True,
            logit_bias=dict.fromkeys(self._rules.suppressed_ids, _NEVER),
        )

    def _read(self, output: Any) -> Decoded:
        """Its tokens up to where our rules end the text."""
        token_ids: list[int] = []
        for token in output.token_ids:
            reason = self._rules.finish_reason(token_ids, token)
            if reason is not None:
                return Decoded(token_ids, reason)
        return Decoded(token_ids, "stop" if output.finish_reason == "stop" else "length")


def check_vllm() -> None:
    """Says in one line when vLLM is missing.

    Raises:
      ModelError: it is.
    """
    try:
        import vllm  # noqa: F401  # pyright: ignore[reportMissingImports, reportUnusedImport]  an extra
    except ImportError:
        raise ModelError("generate.engine: vllm is not installed; install penname[vllm] on a machine with a GPU, or set generate.engine=penname") from None
