"""Times DPTrainer on records from a file: dptrainer_steps.py WORK.json, in its own environment. Prints one line of JSON."""

# pyright: reportMissingImports=false
# Its packages stand in an environment of its own.

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from forward_clock import EnoughMeasured, ForwardClock


def main() -> None:
    """Trains until enough steps are timed: bf16 base, records padded to the longest of their batch."""
    work: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    import datasets
    import torch
    from dptrainer import DPTrainer, PrivacyArguments
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling, TrainingArguments

    torch.manual_seed(work["seed"])
    tokenizer = AutoTokenizer.from_pretrained(work["model"])
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(work["model"], dtype=torch.bfloat16)
    clock = ForwardClock(type(model), num_steps=work["num_steps"])
    adapted = get_peft_model(model, LoraConfig(r=work["lora_rank"], lora_alpha=16, target_modules=work["modules"], task_type="CAUSAL_LM"))
    rows = [{"input_ids": record["token_ids"], "attention_mask": [1] * len(record["token_ids"])} for record in work["records"]]
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            output_dir=out,
            per_device_train_batch_size=work["batch_size"],
            gradient_accumulation_steps=max(1, work["logical_batch_size"] // work["batch_size"]),
            max_steps=1000,
            learning_rate=1e-6,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            seed=work["seed"],
            restore_callback_states_from_checkpoint=True,
        )
        trainer = DPTrainer(
            model=adapted,
            args=arguments,
            train_dataset=datasets.Dataset.from_list(rows),
            privacy_args=PrivacyArguments(noise_multiplier=1.0, per_sample_max_grad_norm=0.1, grad_sample_mode=work["mode"]),
            data_collator=DataCollatorForLanguageModeling(tokenizer=tokenizer, mlm=False),
        )
        with contextlib.suppress(EnoughMeasured):
            trainer.train()
    print(json.dumps({"tokens_per_sec": clock.whole_tokens_per_sec(), "steps": clock.tokens_per_sec()}))


if __name__ == "__main__":
    main()
