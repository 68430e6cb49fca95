"""Times mostlyai-engine with differential privacy on records from a file: mostlyai_steps.py WORK.json, in its own environment. Prints one line of JSON."""

# pyright: reportMissingImports=false
# Its packages stand in an environment of its own.

from __future__ import annotations

import contextlib
import functools
import json
import sys
from pathlib import Path
from typing import Any

from forward_clock import EnoughMeasured, ForwardClock


def main() -> None:
    """Fits its language model until enough steps are timed. Its rank is set to ours; the rest is as it comes."""
    work: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    import pandas as pd
    from mostlyai.engine import LanguageModel
    from mostlyai.engine._language import training
    from mostlyai.engine.domain import DifferentialPrivacyConfig
    from transformers import LlamaForCausalLM

    clock = ForwardClock(LlamaForCausalLM, num_steps=work["num_steps"])
    made = training.LoraConfig
    # Rank 16 is written into it.
    training.LoraConfig = functools.wraps(made)(lambda **given: made(**{**given, "r": work["lora_rank"], "lora_alpha": 16}))
    privacy = DifferentialPrivacyConfig(noise_multiplier=1.0, max_grad_norm=0.1, max_epsilon=None, value_protection_epsilon=None)
    model = LanguageModel(
        model=work["model"],
        differential_privacy=privacy,
        device="cpu",
        value_protection=False,
        batch_size=work["batch_size"],
        gradient_accumulation_steps=max(1, work["logical_batch_size"] // work["batch_size"]),
        random_state=work["seed"],
        tgt_encoding_types={"text": "LANGUAGE_TEXT"},
        verbose=0,
    )
    with contextlib.suppress(EnoughMeasured):
        model.fit(pd.DataFrame({"text": [record["text"] for record in work["records"]]}))
    print(json.dumps({"tokens_per_sec": clock.whole_tokens_per_sec(), "steps": clock.tokens_per_sec()}))


if __name__ == "__main__":
    main()
