"""A language model that learns to say the rating of a review: loaded, tuned with TRL's SFTTrainer and PEFT, and asked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from penname.config import ModelConfig
from penname.errors import UsageError
from penname.evaluate.utility.downstream_scores import FitScores
from penname.evaluate.utility.rating_task import RatingExample, RatingTask
from penname.model.adapter import attach_adapter
from penname.model.base import load_base_model, quiet_transformers, split_head

if TYPE_CHECKING:
    import torch

SCORED_TOKENS = 2048
"""Padded tokens of one forward pass when reviews are scored."""
_IGNORED = -100


def check_engine(engine: Literal["trl", "unsloth"]) -> None:
    """Whether the libraries that tune are here.

    Raises:
      UsageError: they are not, or unsloth finds no GPU; says what to install.
    """
    import importlib.util

    if importlib.util.find_spec("trl") is None:
        raise UsageError("evaluate.metrics: downstream_llm metrics need the extra downstream; pip install 'penname[downstream]', or take them out")
    if engine == "unsloth":
        try:
            importlib.import_module("unsloth")
        except (ImportError, NotImplementedError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
            raise UsageError(
                f"evaluate.downstream_engine: unsloth cannot be used here ({reason}); it needs a CUDA device and the extra unsloth, or take trl"
            ) from None


def load_model(config: ModelConfig, *, engine: Literal["trl", "unsloth"], max_tokens: int) -> tuple[Any, Any]:
    """A fresh base model and its tokenizer.

    Args:
      config: Name, precision, device.
      engine: unsloth loads the weights in 4 bit, on CUDA.
      max_tokens: The longest example.
    Raises:
      ModelError: it is not there, damaged, or needs remote code.
    """
    if engine == "trl":
        return load_base_model(config)
    from penname.model.base import find_base_model

    unsloth: Any = _import_unsloth()
    model, tokenizer = unsloth.FastLanguageModel.from_pretrained(find_base_model(config.name), max_seq_length=max_tokens, load_in_4bit=True)
    return model.eval(), tokenizer


def _import_unsloth() -> Any:
    import importlib

    return importlib.import_module("unsloth")


def tune_model(
    model: Any,
    tokenizer: Any,
    examples: Sequence[RatingExample],
    task: RatingTask,
    *,
    config: ModelConfig,
    engine: Literal["trl", "unsloth"],
    num_steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    on_step: Callable[[int, float | None], None] = lambda step, loss: None,
) -> Any:
    """Puts a fresh adapter on the model and trains it: half of the loss is the review's text, half is the rating.

    Args:
      model: A base model without adapters; it is changed.
      tokenizer: Of the model.
      examples: n >= 1, PRIVATE when real; drawn in a random order, over and over until the steps are done.
      task: The wording.
      config: The adapter's shape.
      engine: trl, or unsloth's faster layers under the same trainer.
      num_steps, batch_size, learning_rate: Of AdamW; linear warm-up over the first tenth, then cosine decay.
      seed: Of the adapter and of the order.
      on_step: Gets the step and its loss.
    Returns:
      The adapted model in evaluation mode. As private as the examples.
    Source: Hu et al. (2021), arXiv:2106.09685; TRL, https://github.com/huggingface/trl
    """
    import torch

    rows = [_lay_out(example, task) for example in examples]
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
        adapted = _adapt(model, config, engine=engine, seed=seed)
        settings = {
            "output_dir": folder,
            "max_steps": num_steps,
            "warmup_steps": max(1, num_steps // 10),
            "per_device_train_batch_size": batch_size,
            "learning_rate": learning_rate,
            "seed": seed,
            "data_seed": seed,
        }
        _make_trainer(adapted, tokenizer, rows, settings, on_step).train()
    return adapted.eval()


def _lay_out(example: RatingExample, task: RatingTask) -> dict[str, list[int]]:
    """Tokens and targets: the text, and last the rating; what stands around them is given."""
    token_ids = [*example.token_ids, task.label_ids[example.rating - 1]]
    text = range(example.num_before, example.num_before + example.num_text)
    labels = [token if place in text else _IGNORED for place, token in enumerate(token_ids)]
    labels[-1] = token_ids[-1]
    return {"input_ids": token_ids, "labels": labels}


def _adapt(model: Any, config: ModelConfig, *, engine: Literal["trl", "unsloth"], seed: int) -> Any:
    if engine == "trl":
        return attach_adapter(model, config, seed=seed)
    adapter: dict[str, Any] = {"r": config.lora_rank, "lora_alpha": config.lora_alpha, "target_modules": config.target_modules}
    return _import_unsloth().FastLanguageModel.get_peft_model(model, lora_dropout=0.0, random_state=seed, **adapter)


def _make_trainer(model: Any, tokenizer: Any, rows: list[dict[str, list[int]]], settings: dict[str, Any], on_step: Callable[[int, float | None], None]) -> Any:
    # Read by TRL when its trainer is made; ours sends nothing either way.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    quiet_transformers()

    class RatingTrainer(SFTTrainer):
        """The loss of a review is the mean over its text plus that of its rating: one token among a hundred would else teach little."""

        def _send_telemetry(self) -> None:
            """Nothing of a private data set is told to anyone."""

        def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
            return rating_loss(model, inputs["input_ids"], inputs["attention_mask"], inputs["labels"])

    class Watch(TrainerCallback):
        """Says how far it is."""

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                on_step(state.global_step, float(logs["loss"]))

    if tokenizer.pad_token_id is None:
        # What is padded is masked, so any token will do.
        tokenizer.pad_token = tokenizer.eos_token
    config = SFTConfig(use_cpu=model.device.type == "cpu", **settings, **_FIXED)
    trainer = RatingTrainer(model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, callbacks=[Watch()])
    for callback in list(trainer.callback_handler.callbacks):
        # It prints every loss on standard output.
        if type(callback).__name__ == "PrinterCallback":
            trainer.remove_callback(callback)
    return trainer


_FIXED: dict[str, Any] = {
    "lr_scheduler_type": "cosine",
    # The base has its own precision, and the adapter is float32: no autocast around them.
    "bf16": False,
    "gradient_checkpointing": False,
    # Rows are tokens already, and cut.
    "max_length": None,
    "dataset_kwargs": {"skip_prepare_dataset": True},
    "save_strategy": "no",
    "report_to": "none",
    "logging_steps": 1,
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
}
"""Settings of the trainer that are the same for every tuning."""


def rating_loss(model: Any, token_ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over the reviews of half the mean loss of the text's tokens and half the loss of the rating, the last label of a row.

    Args:
      model: A causal LM, with or without adapters.
      token_ids, mask, labels: (B, T); labels are -100 where nothing is learned, and each row has one at least. PRIVATE when the reviews are.
    Returns:
      () float32, nats.
    """
    import torch

    decoder, head = split_head(model)
    hidden = decoder(input_ids=token_ids, attention_mask=mask, use_cache=False).last_hidden_state[:, :-1]  # (B, T - 1, D)
    targets = labels[:, 1:]
    known = targets != _IGNORED
    losses = torch.zeros(targets.shape, dtype=torch.float32, device=hidden.device)
    losses[known] = torch.nn.functional.cross_entropy(head(hidden[known]).float(), targets[known], reduction="none")
    places = torch.arange(targets.shape[1], device=hidden.device)
    last = torch.where(known, places, -1).argmax(dim=1)  # (B,)
    of_rating = losses.gather(1, last[:, None])[:, 0]
    num_text = (known.sum(dim=1) - 1).clamp(min=1)
    of_text = (losses.sum(dim=1) - of_rating) / num_text
    return (of_text + of_rating).mean() / 2


def score_reviews(
    model: Any, tokenizer: Any, examples: Sequence[RatingExample], task: RatingTask, *, on_progress: Callable[[int], None] = lambda num: None
) -> FitScores:
    """What the model says of reviews: the likelihood of each rating, and of the text. Nothing is generated, so nothing need be parsed.

    Args:
      model: A causal LM in evaluation mode, with or without adapters.
      tokenizer: Of the model.
      examples: m reviews. PRIVATE.
      task: The wording.
      on_progress: Gets the number of reviews after each pass.
    Returns:
      FitScores: PRIVATE.
    """
    import torch

    rating_log_probs = np.zeros((len(examples), len(task.label_ids)))
    text_log_likelihoods, num_text_tokens = np.zeros(len(examples)), np.array([example.num_text for example in examples], dtype=np.int64)
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    decoder, head = split_head(model)
    with torch.inference_mode():
        for places in _cut_batches(examples):
            batch = [examples[place] for place in places]
            token_ids, mask = _pad(batch, pad_id, device=model.device)
            hidden = decoder(input_ids=token_ids, attention_mask=mask, use_cache=False).last_hidden_state
            for place, example, states in zip(places, batch, hidden, strict=True):
                ratings = head(states[len(example.token_ids) - 1]).float()[task.label_ids]
                rating_log_probs[place] = ratings.log_softmax(0).double().cpu().numpy()
                text_log_likelihoods[place] = _sum_text(head, states, example)
            on_progress(len(places))
    return FitScores(rating_log_probs, text_log_likelihoods, num_text_tokens)


def _sum_text(head: Any, states: torch.Tensor, example: RatingExample) -> float:
    """Log-likelihood of a text: each of its tokens from the state of the one before."""
    import torch

    if not example.num_text:
        return 0.0
    span = slice(example.num_before, example.num_before + example.num_text)
    targets = torch.tensor(example.token_ids[span], device=states.device)
    logits = head(states[span.start - 1 : span.stop - 1]).float()
    return -float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))


def _cut_batches(examples: Sequence[RatingExample]) -> Iterator[list[int]]:
    """Places of examples of like length, at most SCORED_TOKENS padded tokens together, or one."""
    batch: list[int] = []
    for place in sorted(range(len(examples)), key=lambda i: len(examples[i].token_ids)):
        if batch and (len(batch) + 1) * len(examples[place].token_ids) > SCORED_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _pad(batch: Sequence[RatingExample], pad_id: int, *, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T) tokens, padded on the right, and their mask."""
    import torch

    longest = max(len(example.token_ids) for example in batch)
    token_ids = [example.token_ids + [pad_id] * (longest - len(example.token_ids)) for example in batch]
    mask = [[1] * len(example.token_ids) + [0] * (longest - len(example.token_ids)) for example in batch]
    return torch.tensor(token_ids, device=device), torch.tensor(mask, device=device)
