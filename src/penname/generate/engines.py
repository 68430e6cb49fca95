"""Which decoder writes the texts: `generate.engine`, and what the model can be given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penname.config import GenerateConfig
from penname.errors import ModelError
from penname.generate.alone import AloneDecoder
from penname.generate.decode import Decoder, Rules
from penname.generate.openvino_decoder import OpenvinoDecoder, check_openvino
from penname.generate.slots import SlotDecoder
from penname.generate.vllm_decoder import VllmDecoder, check_vllm
from penname.model.device import return_freed_memory
from penname.progress import say


def open_decoder(config: GenerateConfig, model: Any, tokenizer: Any, rules: Rules, *, prompts: Sequence[Sequence[int]], scratch: Path) -> Decoder:
    """The decoder for these prompts.

    Args:
      config: `engine`, `batch_size` and `max_new_tokens`.
      model: In evaluation mode, without an adapter.
      tokenizer: Of the model.
      rules: How texts are drawn.
      prompts: All prompts of the run as tokens, those of finished records too: what is decided here must not depend on where a run was stopped.
      scratch: A folder for temporary files.
    Raises:
      ModelError: a prompt and the longest text do not fit into the model's window, or the engine is not there.
    """
    longest = max(map(len, prompts)) + config.max_new_tokens
    check_window(model, config, longest=longest)
    if config.engine == "vllm":
        return VllmDecoder.open(model, tokenizer, rules, num_slots=config.batch_size, longest=longest, scratch=scratch)
    if config.engine == "openvino":
        return OpenvinoDecoder.open(model, rules, num_slots=config.batch_size, longest=longest, scratch=scratch)
    decoder = SlotDecoder.open(model, rules, num_slots=config.batch_size, longest=longest)
    # What merging the adapter and laying the weights out anew have left.
    return_freed_memory()
    if decoder is not None:
        return decoder
    say("generate: this model's attention is not plain causal attention; its texts are written one at a time, which takes longer")
    return AloneDecoder(model, rules)


def check_engine(config: GenerateConfig) -> None:
    """Says in one line what `engine` needs and is not installed, before anything is begun.

    Raises:
      ModelError: it is missing.
    """
    checks = {"vllm": check_vllm, "openvino": check_openvino}
    if config.engine in checks:
        checks[config.engine]()


def check_window(model: Any, config: GenerateConfig, *, longest: int) -> None:
    """Checks that a prompt and a text of `longest` tokens together fit into the model.

    Raises:
      ModelError: they do not; says which setting to change.
    """
    window = getattr(model.config, "max_position_embeddings", None)
    prompt = longest - config.max_new_tokens
    if window is None or longest <= window:
        return
    if prompt >= window:
        raise ModelError(f"records.prompt_template: a prompt has {prompt:,} tokens, and the model has room for {window:,}; make the template shorter")
    raise ModelError(
        f"generate.max_new_tokens: a prompt of {prompt:,} tokens and a text of {config.max_new_tokens:,} need more room than the model's {window:,} tokens; "
        f"set at most {window - prompt}"
    )
