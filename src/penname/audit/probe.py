"""The stage: asks the models of the twin. What they write after prompts that ask for a canary, and how likely they find each candidate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from penname.audit.candidates import Candidate, list_candidates
from penname.audit.plant import open_template
from penname.audit.twins import Twin, list_twins
from penname.config import Config
from penname.generate.decode import Decoded, Request, find_prefix
from penname.generate.engines import open_decoder
from penname.generate.synthesize import RecordWriter
from penname.model.adapter import merge_adapter
from penname.model.base import load_base_model
from penname.model.likelihood import TokenLikelihoods, token_log_likelihoods
from penname.model.tokenize import encode_prompt
from penname.progress import show_progress
from penname.run_dir import RunDir, hash_path, hash_value, read_rows, write_atomic, write_rows
from penname.schemas import BASE, Arm
from penname.template import RecordTemplate

Way = Literal["record", "prefix"]
"""How a canary is asked for: by the prompt of its record, or by that and its first words."""


@dataclass(frozen=True, slots=True)
class PromptedText:
    """What a model wrote when it was asked for a canary. PRIVATE."""

    canary_id: str
    way: Way
    text: str
    """Without the prompt, and without the words of the canary that were given."""


def run_probe(config: Config, run_dir: RunDir) -> None:
    """Writes the artefacts prompted_texts and likelihoods, one file a model; a file that is there is not made again.

    Where nothing is trained only the base model is asked, to which the attacks on text compare.

    Args:
      config: Sections `audit`, `model`, `generate`, `records`, `train.max_record_tokens`.
      run_dir: The audit; its twin is trained.
    Raises:
      ModelError: a model cannot be loaded, or a prompt and its text do not fit into it.
    """
    (twin,) = list_twins(config, run_dir)
    candidates = list_candidates(config, run_dir)
    template = open_template(config, run_dir)
    # A folder, even where it stays empty.
    run_dir.path("prompted_texts").mkdir(parents=True, exist_ok=True)
    for name in (BASE, *(config.train.arms if config.train.method == "dp_sgd" else [])):
        adapter = None if name == BASE else twin.run_dir.path(f"adapter_{name}")
        key = _hash_questions(config, candidates, adapter)
        likelihoods, prompted = likelihood_path(run_dir, name), prompted_path(run_dir, name)
        needs_likelihoods, needs_texts = _read_key(likelihoods) != key, adapter is not None and _read_first_key(prompted) != key
        if not needs_likelihoods and not needs_texts:
            continue
        model, tokenizer = load_base_model(config.model)
        if adapter is not None:
            model = merge_adapter(model, adapter)
        if needs_likelihoods:
            texts = [(candidate.record.prompt, candidate.record.completion) for candidate in candidates]
            with show_progress(f"ask {name}", len(texts)) as progress:
                found = token_log_likelihoods(model, tokenizer, texts, max_tokens=config.train.max_record_tokens, on_progress=progress.advance)
            _write_likelihoods(likelihoods, found, key)
        if needs_texts:
            rows = _prompt(config, twin, name, model, tokenizer, template, candidates)
            write_rows(prompted, [{"key": key}, *({"canary_id": row.canary_id, "way": row.way, "text": row.text} for row in rows)])


def _hash_questions(config: Config, candidates: Sequence[Candidate], adapter: Path | None) -> str:
    settings = [config.model.model_dump(), config.generate.model_dump(), config.audit.model_dump(), config.train.max_record_tokens]
    asked = [(candidate.record.prompt, candidate.record.completion) for candidate in candidates]
    return hash_value([settings, asked, hash_path(adapter) if adapter is not None else None])


def _prompt(config: Config, twin: Twin, arm: str, model: Any, tokenizer: Any, template: RecordTemplate, candidates: Sequence[Candidate]) -> list[PromptedText]:
    settings = config.generate.model_copy(update={"temperature": config.audit.prompted_temperature})
    # The rules of the run: control tokens are not drawn, and a text ends at its end mark.
    own_arm: Any = arm
    rules = RecordWriter(tokenizer, template, settings, own_arm).rules
    questions = list_questions(candidates, template, tokenizer)
    prompts = [tokens for _, _, tokens in questions]
    decoder = open_decoder(settings, model, tokenizer, rules, prompts=prompts, scratch=twin.run_dir.root)
    requests = [Request((config.audit.seed, place, draw), tokens) for place, tokens in enumerate(prompts) for draw in range(config.audit.num_prompted)]
    found: dict[tuple[int, ...], PromptedText] = {}
    with show_progress(f"prompt {arm}", len(requests)) as progress:

        def take(request: Request, text: Decoded) -> None:
            canary_id, way, _ = questions[request.key[1]]
            words = tokenizer.decode(text.token_ids)
            found[request.key] = PromptedText(canary_id, way, words.partition(template.end)[0] if template.end else words)
            progress.advance()

        decoder.decode(requests, take, prefix=find_prefix([request.prompt for request in requests]))
    return [found[request.key] for request in requests]


def list_questions(candidates: Sequence[Candidate], template: RecordTemplate, tokenizer: Any) -> list[tuple[str, Way, tuple[int, ...]]]:
    """For each canary, planted or not, the prompt of its record, and the same with the record up to the end of the canary's beginning.

    Args:
      candidates: Of the audit. PRIVATE.
      template: Of the records.
      tokenizer: Of the model.
    Returns:
      Canary id, way, and tokens of the prompt; cut into tokens as in training. PRIVATE.
    """
    questions: list[tuple[str, Way, tuple[int, ...]]] = []
    for candidate in candidates:
        if candidate.group != "canary" or candidate.canary is None:
            continue
        record, canary = candidate.record, candidate.canary
        prompt = encode_prompt(tokenizer, record.prompt)
        begun = template.completion.partition("{text}")[0].format(title=record.title) + canary.prefix
        questions.append((canary.canary_id, "record", tuple(prompt)))
        questions.append((canary.canary_id, "prefix", (*prompt, *tokenizer(begun, add_special_tokens=False)["input_ids"])))
    return questions


def likelihood_path(run_dir: RunDir, name: str) -> Path:
    """The file of one model's likelihoods."""
    return run_dir.path("likelihoods") / f"{name}.safetensors"


def prompted_path(run_dir: RunDir, name: str) -> Path:
    """The file of one arm's prompted texts."""
    return run_dir.path("prompted_texts") / f"{name}.jsonl"


def read_likelihoods(run_dir: RunDir, name: str) -> TokenLikelihoods:
    """What one model thinks of every candidate. PRIVATE."""
    from safetensors import safe_open

    with safe_open(likelihood_path(run_dir, name), framework="np") as file:
        return TokenLikelihoods(file.get_tensor("log_likelihoods"), file.get_tensor("num_tokens"))


def read_prompted(run_dir: RunDir, arm: Arm) -> list[PromptedText]:
    """What one arm wrote when it was asked for canaries. PRIVATE."""
    rows = read_rows(prompted_path(run_dir, arm))
    next(rows)
    return [PromptedText(**row) for row in rows]


def _write_likelihoods(path: Path, found: TokenLikelihoods, key: str) -> None:
    from safetensors.numpy import save

    tensors = {"log_likelihoods": found.log_likelihoods, "num_tokens": found.num_tokens}
    with write_atomic(path, "wb") as handle:
        handle.write(save(tensors, metadata={"key": key}))


def _read_key(path: Path) -> str | None:
    """Under which questions a file of likelihoods was made; None where there is none, or a damaged one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return (file.metadata() or {}).get("key")
    except (FileNotFoundError, SafetensorError, OSError):
        return None


def _read_first_key(path: Path) -> str | None:
    """The same of a file of prompted texts."""
    if not path.is_file():
        return None
    with open(path, encoding="utf-8") as handle:
        try:
            return json.loads(handle.readline()).get("key")
        except ValueError:
            return None
