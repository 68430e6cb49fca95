"""The decoder of OpenVINO GenAI, for processors: the same texts' law, drawn by its own sampler, so other texts than ours from the same seed."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import tempfile
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from penname.errors import ModelError
from penname.generate.decode import Decoded, NextDraw, OnText, Request, Rules
from penname.progress import say

# Tokens whose keys and values OpenVINO keeps in one block on a processor.
_BLOCK_TOKENS = 32
# Added to a token's logit: so far below any other that its probability is zero in every precision.
_NEVER = -1e4
_PROBE_TOKENS = 4
_TELEMETRY = "openvino_telemetry"
_INSTEAD = "set generate.engine=penname"


@dataclass(eq=False)
class _Text:
    """A text that OpenVINO is writing."""

    request: Request
    handle: Any
    token_ids: list[int] = field(default_factory=list)


class OpenvinoDecoder:
    """Texts by `ContinuousBatchingPipeline`, with a seed for each text; where a text ends is decided here, token by token."""

    def __init__(self, pipe: Any, rules: Rules, *, num_slots: int) -> None:
        """Is made by `open`."""
        self._pipe, self._rules, self._num_slots = pipe, rules, num_slots
        self._num_asked = 0

    @classmethod
    def open(cls, model: Any, rules: Rules, *, num_slots: int, longest: int, scratch: Path) -> Self:
        """Converts the merged model, opens it, and checks that it says what the model says.

        Args:
          model: On a processor, without an adapter.
          rules: How texts are drawn.
          num_slots: Texts at once at most.
          longest: Tokens of the longest prompt and text together.
          scratch: A folder for the converted model, which is removed again.
        Raises:
          ModelError: OpenVINO is not installed, cannot write with this model, or computes something else than the model.
        """
        check_openvino()
        if model.device.type != "cpu":
            raise ModelError(f"generate.engine: openvino writes on processors, and the model is on {model.device}; set model.device=cpu, or {_INSTEAD}")
        say("generate: converting the model for openvino, which takes a while")
        # The weights are read when the pipeline is opened; those of the arm without privacy must not lie about any longer than that.
        with tempfile.TemporaryDirectory(prefix=".openvino-", dir=scratch) as folder:
            try:
                _convert(model, rules, Path(folder))
                pipe = _open_pipeline(model, Path(folder), num_slots=num_slots, longest=longest)
            # A full disk says so itself, and is not the model's fault.
            except OSError:
                raise
            # What a converter meets in a model that it does not know is of every kind.
            except Exception as error:
                raise ModelError(f"generate.engine: openvino cannot write with this model ({_find_reason(error)}); {_INSTEAD}") from None
        decoder = cls(pipe, rules, num_slots=num_slots)
        decoder._check(model, longest)
        return decoder

    def decode(self, requests: Sequence[Request], on_text: OnText, *, prefix: Sequence[int] = (), next_draw: NextDraw | None = None) -> None:
        """See `Decoder`. OpenVINO finds shared beginnings itself; what is drawn again enters at once, and nothing is written ahead.

        Unlike ours, a text may change with what is written beside it, by rounding.
        """
        waiting, running = deque(requests), list[_Text]()
        try:
            while waiting or running:
                while waiting and len(running) < self._num_slots:
                    running.append(self._ask(waiting.popleft()))
                self._step()
                for text in list(running):
                    decoded = self._read(text)
                    if decoded is None:
                        continue
                    running.remove(text)
                    again = on_text(text.request, decoded)
                    if again is not None:
                        waiting.appendleft(again)
        finally:
            for text in running:
                text.handle.cancel()
            # What was ended here gives its blocks back in one more step; they would be reported as lost. An error in it must not hide another.
            with contextlib.suppress(ModelError):
                self._step()

    def _step(self) -> None:
        try:
            self._pipe.step()
        except RuntimeError as error:
            raise ModelError(f"generate.engine: openvino failed ({_find_reason(error)}); set a smaller generate.batch_size, or {_INSTEAD}") from None

    def _ask(self, request: Request) -> _Text:
        sampling, config = self._rules.sampling, self._new_config(self._rules.sampling.max_new_tokens)
        config.do_sample, config.temperature, config.top_p, config.min_p, config.top_k = True, sampling.temperature, sampling.top_p, sampling.min_p, 0
        # Its random numbers take 32 bits: the whole key in as many.
        config.rng_seed = int(np.random.SeedSequence(request.key).generate_state(1, np.uint32)[0])
        return _Text(request, self._add(request.prompt, config))

    def _new_config(self, max_new_tokens: int) -> Any:
        import openvino_genai

        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = max_new_tokens
        config.set_eos_token_id(self._rules.eos_id)
        return config

    def _add(self, prompt: Sequence[int], config: Any) -> Any:
        import openvino

        self._num_asked += 1
        return self._pipe.add_request(self._num_asked, openvino.Tensor(np.array([prompt], dtype=np.int64)), config)

    def _read(self, text: _Text) -> Decoded | None:
        """What the last step added; the whole text where that ended it."""
        import openvino_genai

        while text.handle.can_read():
            for output in text.handle.read().values():
                for token in output.generated_ids:
                    reason = self._finish_reason(text, token)
                    if reason is not None:
                        text.handle.stop()
                        return Decoded(text.token_ids, reason)
        if text.handle.get_status() != openvino_genai.GenerationStatus.RUNNING:
            raise ModelError(
                f"generate.engine: openvino gave up a text after {len(text.token_ids):,} tokens, most likely for want of memory; "
                "set a smaller generate.batch_size"
            )
        return None

    def _finish_reason(self, text: _Text, token: int) -> str | None:
        return self._rules.finish_reason(text.token_ids, token)

    @torch.inference_mode()
    def _check(self, model: Any, longest: int) -> None:
        """Compares what OpenVINO says of the tokens that it finds likeliest with what the model says of them, after the longest and after a short prompt."""
        generator, most = torch.Generator().manual_seed(1), max(1, longest - _PROBE_TOKENS)
        probes = [torch.randint(0, model.get_input_embeddings().num_embeddings, (length,), generator=generator).tolist() for length in (most, min(7, most))]
        worst = 0.0
        for prompt in probes:
            token_ids, said = self._write_likeliest(prompt)
            logits = model(input_ids=torch.tensor([prompt + token_ids])).logits[0, len(prompt) - 1 : -1].float()
            logits[:, list(self._rules.suppressed_ids)] = -torch.inf
            expected = logits.log_softmax(1).gather(1, torch.tensor(token_ids)[:, None])[:, 0]
            worst = max(worst, float((torch.tensor(said) - expected).abs().max()))
        tolerance = 0.2 if model.dtype == torch.bfloat16 else 1e-2
        if not worst <= tolerance:
            raise ModelError(f"generate.engine: openvino computes something else than this model (log-probabilities differ by {worst:.2g}); {_INSTEAD}")

    def _write_likeliest(self, prompt: Sequence[int]) -> tuple[list[int], list[float]]:
        config = self._new_config(_PROBE_TOKENS)
        config.do_sample, config.logprobs, config.ignore_eos = False, 1, True
        handle = self._add(prompt, config)
        token_ids, log_probs = list[int](), list[float]()
        while self._pipe.has_non_finished_requests():
            self._step()
            while handle.can_read():
                for output in handle.read().values():
                    token_ids += output.generated_ids
                    log_probs += output.generated_log_probs
        if len(token_ids) != _PROBE_TOKENS:
            raise ModelError(f"generate.engine: openvino gave up a text of {len(prompt):,} tokens before the first; set a smaller generate.batch_size")
        return token_ids, log_probs


def _convert(model: Any, rules: Rules, folder: Path) -> None:
    """Writes the model where OpenVINO can read it, with what may not be drawn ruled out in its last layer."""
    import openvino
    from openvino import opset14
    from transformers.exporters.configs import OpenVINOConfig
    from transformers.exporters.exporter_openvino import OpenVINOExporter

    # Notes from one library to the authors of another, and the exporter's word that it is new: what it makes is checked.
    loggers = [logging.getLogger(name) for name in ("transformers", "torch.export", "torch._export")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inputs = _make_inputs(model)
            program = OpenVINOExporter().export(model, inputs, config=OpenVINOConfig(dynamic=True, dynamic_shapes=_name_open_sizes(inputs))).program
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    logits = program.output("logits").get_node()
    offsets = np.zeros(model.get_output_embeddings().weight.shape[0], dtype=np.float32)
    offsets[list(rules.suppressed_ids)] = _NEVER
    ruled_out = opset14.add(logits.input_value(0), opset14.constant(offsets)).output(0)
    logits.input(0).replace_source_output(ruled_out)
    ruled_out.get_tensor().set_names({"logits"})
    openvino.save_model(program, str(folder / "openvino_model.xml"), compress_to_fp16=False)


@torch.inference_mode()
def _make_inputs(model: Any) -> dict[str, Any]:
    """A pass of several tokens after others, for two texts at once: no size is 1, which would be taken for fixed."""
    num_texts, num_before, num_new = 2, 5, 3
    before = torch.full((num_texts, num_before), 1)
    return {
        "input_ids": torch.full((num_texts, num_new), 1),
        "attention_mask": torch.ones(num_texts, num_before + num_new, dtype=torch.long),
        "position_ids": torch.arange(num_before, num_before + num_new).expand(num_texts, -1).contiguous(),
        "past_key_values": model(input_ids=before, use_cache=True).past_key_values,
    }


def _name_open_sizes(inputs: dict[str, Any]) -> dict[str, Any]:
    """Numbers of texts and of tokens, and no other: heads and their sizes are fixed."""
    from torch.export import Dim
    from transformers.exporters.utils import get_leaf_tensors

    texts_and_tokens = {0: Dim.AUTO, 1: Dim.AUTO}
    num_states = len(get_leaf_tensors(inputs["past_key_values"]))
    return {
        **dict.fromkeys(("input_ids", "attention_mask", "position_ids"), texts_and_tokens),
        "past_key_values": [{0: Dim.AUTO, 2: Dim.AUTO}] * num_states,
    }


def _open_pipeline(model: Any, folder: Path, *, num_slots: int, longest: int) -> Any:
    import openvino
    import openvino_genai

    schedule = openvino_genai.SchedulerConfig()
    schedule.max_num_seqs = num_slots
    schedule.max_num_batched_tokens = max(256, num_slots)
    schedule.num_kv_blocks = num_slots * (math.ceil(longest / _BLOCK_TOKENS) + 1)
    schedule.dynamic_split_fuse = True
    schedule.enable_prefix_caching = True
    precision = openvino.Type.bf16 if model.dtype == torch.bfloat16 else openvino.Type.f32
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "KV_CACHE_PRECISION": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        # The file is removed when it has been read.
        "ENABLE_MMAP": False,
    }
    return openvino_genai.ContinuousBatchingPipeline(folder, schedule, "CPU", options)


def _find_reason(error: Exception) -> str:
    """What an error says, on one line, without the place in OpenVINO's source that it begins with."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Exception from ")]
    return (lines or [type(error).__name__])[0].strip()[:200]


def check_openvino() -> None:
    """Says in one line when OpenVINO GenAI, or a transformers that converts for it, is missing; and keeps OpenVINO from reporting to its maker.

    Raises:
      ModelError: it is missing, or was loaded before with what it reports by.
    """
    # Its converter sends word of every model that it converts, unasked. It goes without where the package for that is not there.
    if sys.modules.get(_TELEMETRY) is not None:
        raise ModelError(f"generate.engine: openvino was loaded with {_TELEMETRY}, which sends reports; start penname in a process of its own")
    sys.modules[_TELEMETRY] = None  # pyright: ignore[reportArgumentType]  what Python takes for a package that is missing
    try:
        import openvino_genai  # noqa: F401  # pyright: ignore[reportUnusedImport]
        import transformers.exporters.exporter_openvino  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise ModelError(f"generate.engine: openvino is not installed ({error}); install penname[openvino], or {_INSTEAD}") from None
