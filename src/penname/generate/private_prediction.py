"""Private prediction: the model stays as it is. A few private records at a time are its examples, and each word is drawn from what it says after each.

Source: Vinod, Pillutla and Thakurta (2025), InvisibleInk, https://arxiv.org/abs/2507.02974; Amin et al. (2024), https://arxiv.org/abs/2407.12108
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from penname.config import Config, GenerateConfig
from penname.errors import ModelError, PennameError
from penname.generate.conditioning import Condition, plan_conditions, release_conditioning
from penname.generate.decode import Decoded, find_prefix
from penname.generate.engines import check_window
from penname.generate.exemplars import Exemplar
from penname.generate.joint_decoding import JointDecoder, JointText
from penname.generate.prompt_cells import PromptCells
from penname.generate.slots import ROWS, SlotDecoder
from penname.generate.synthesize import RecordWriter
from penname.model.base import load_base_model
from penname.model.device import return_freed_memory, settle_kernels
from penname.privacy.budget import check_delta
from penname.privacy.exponential import BoundedScores, ExponentialDraws, NonPrivateDraws
from penname.privacy.exponential_checks import check_draws
from penname.privacy.selfcheck import CheckResult, check_only_adapters_train, to_rows
from penname.progress import say, show_progress
from penname.run_dir import RunDir, hash_path, hash_value, read_json, read_rows, write_json, write_rows
from penname.run_privacy import charge_draws, open_keystream
from penname.schemas import Arm, SyntheticRecord
from penname.unit_file import UnitFile

_NUM_PROBE_UNITS = 3
_NUM_PROBE_TOKENS = 3
_NUM_TRIALS = 20
# A prompt may be longer than its exemplar's tokens and its own: tokens join otherwise where two texts meet.
_SLACK_TOKENS = 16
_MADE_UP = Exemplar(3, "", "", "Fine", "It does what it should.")


def run_private_prediction(config: Config, run_dir: RunDir) -> None:
    """Lets every arm of `train.arms` that is not done yet write its texts.

    Args:
      config: Sections `model`, `privacy`, `train`, `predict` and `records` (the template).
      run_dir: Holds train_records and the catalogue; gets the ledger, unit_count, conditioning, and each arm's population and metrics.
    Raises:
      PrivacyError: the promise cannot be kept; nothing is charged then.
      ModelError: the model cannot be loaded, prompts do not fit into it, or its attention is not the plain one.
      PennameError: the untrained model does not write the template's form.
    """
    waiting: list[Arm] = [arm for arm in config.train.arms if not run_dir.path(f"population_{arm}").exists()]
    if not waiting:
        return
    units = UnitFile(run_dir.path("train_records"))
    if "with_dp" in config.train.arms:
        check_delta(config.privacy.delta, num_units=len(units))
    # What could go wrong with the model goes wrong before anything is charged.
    scribe = Scribe.open(config, run_dir)
    scribe.check_form()
    inputs_sha256 = hash_inputs(config, run_dir)
    keystream, mechanism, num_units = open_keystream(config, run_dir), None, len(units)
    if "with_dp" in config.train.arms:
        mechanism = charge_draws(config, run_dir, keystream, num_units=len(units), inputs_sha256=inputs_sha256)
        num_units = read_json(run_dir.path("unit_count"))["noisy_num_units"]
    cells = release_conditioning(config, run_dir, keeps_key=True)["cells"]
    predict = config.predict
    conditions = plan_conditions(
        cells, scribe.asked.products, num_records=predict.num_texts, needs_product=scribe.asked.template.needs_product_title, seed=predict.seed
    )
    for arm in waiting:
        own = mechanism if arm == "with_dp" and mechanism else NonPrivateDraws(predict.temperature, predict.max_new_tokens, keystream)
        folder = run_dir.path(f"population_{arm}").parent
        _Arm(arm, own, scribe, units, conditions, num_units / len(conditions), run_dir, folder / "rounds" / inputs_sha256[:16]).write()
        shutil.rmtree(folder / "rounds", ignore_errors=True)


def hash_inputs(config: Config, run_dir: RunDir) -> str:
    """Hash of everything that the texts are made from."""
    sections = {name: getattr(config, name).model_dump() for name in ("model", "privacy", "train", "predict", "records")}
    for section, name in (("train", "arms"), ("privacy", "ledger"), ("privacy", "ledger_epsilon")):
        del sections[section][name]
    return hash_value({**sections, "train_records": hash_path(run_dir.path("train_records"))})


@dataclass(frozen=True)
class Scribe:
    """The untrained model, and how it is asked."""

    writer: RecordWriter
    slots: SlotDecoder
    asked: PromptCells
    prefix: list[int]
    """Tokens that every prompt begins with. Public: a private prompt that began otherwise would be left out, not shorten it."""
    longest: int
    """Tokens that a prompt may have."""
    top_k: int
    max_example_tokens: int
    nothing_trains: CheckResult

    @classmethod
    def open(cls, config: Config, run_dir: RunDir) -> Scribe:
        """Loads the model.

        Raises:
          ModelError: it cannot be loaded, a prompt with an example before it does not fit into it, or its attention is not the plain one.
        """
        predict, asked = config.predict, PromptCells.read(config, run_dir)
        # One draw a text: what does not parse is left out.
        generate = GenerateConfig(temperature=predict.temperature, top_p=1.0, max_new_tokens=predict.max_new_tokens, max_draws_per_record=1, seed=predict.seed)
        model, tokenizer = load_base_model(config.model)
        settle_kernels(model.device)
        is_frozen = check_only_adapters_train(dict(model.named_parameters()), is_adapter=lambda _: False)
        writer = RecordWriter(tokenizer, asked.template, generate, "with_dp")
        longest = 2 * asked.find_longest_prompt(writer) + predict.max_example_tokens + _SLACK_TOKENS
        check_window(model, generate, longest=longest + predict.max_new_tokens)
        slots = SlotDecoder.open(model, writer.rules, num_slots=ROWS, longest=longest + predict.max_new_tokens)
        return_freed_memory()
        if slots is None:
            raise ModelError("train.method: private_prediction needs a model whose attention is plain causal attention; take another model or dp_sgd")
        # Whatever a product may be called: of two names that share nothing, nothing is in the beginning.
        conditions = [Condition("", rating, category, name) for rating, category in asked.cells for name in ("Ab", "7")]
        made_up = [writer.encode_after(replace(_MADE_UP, category=one.category, product_title=one.product_title), one) for one in conditions]
        prefix = find_prefix([*map(writer.encode, conditions), *made_up])
        top_k = min(predict.top_k, model.config.vocab_size - len(writer.rules.suppressed_ids))
        return cls(writer, slots, asked, prefix, longest, top_k, predict.max_example_tokens, replace(is_frozen, detail="no weight of the model trains"))

    def check_form(self) -> None:
        """Lets the model write a few texts to prompts without private records.

        Raises:
          PennameError: less than half of them have the template's form.
        """
        cells = self.asked.cells
        conditions = self.asked.ask([cells[i % len(cells)] for i in range(_NUM_TRIALS)], seed=(self.writer.config.seed, 1))
        found: list[SyntheticRecord] = []
        # Drawn from all words, so the form is a little rarer here than among the likeliest.
        prompts = [self.writer.encode(condition) for condition in conditions]
        self.writer.write(self.slots, conditions, prompts, range(len(conditions)), found.append)
        if 2 * len(found) < len(conditions):
            raise PennameError(
                f"predict: only {len(found)} of {len(conditions)} texts of the untrained model have the form of records.completion_template; "
                "put an example into records.prompt_template, or take a larger model"
            )

    def encode_unit(self, row: dict[str, Any], condition: Condition) -> tuple[int, ...] | None:
        """The prompt of a condition after a private record, or None where it does not fit. PRIVATE; a function of this record and the condition alone."""
        tokenizer = self.writer.tokenizer
        text = tokenizer.decode(tokenizer(str(row["text"]), add_special_tokens=False)["input_ids"][: self.max_example_tokens])
        exemplar = Exemplar(int(row["rating"]), str(row["category"]), str(row.get("product_title") or ""), str(row["title"]), text)
        prompt = self.writer.encode_after(exemplar, condition)
        is_usable = len(self.prefix) < len(prompt) <= self.longest and list(prompt[: len(self.prefix)]) == self.prefix
        return prompt if is_usable else None

    def read_scores(self, first: torch.Tensor, others: torch.Tensor) -> tuple[list[int], torch.Tensor, torch.Tensor]:
        """What may be drawn, and how likely.

        Args:
          first: (V,) logits after the prompt without private records.
          others: (U, V) after those with one. PRIVATE.
        Returns:
          Tokens, (K,); their log-probabilities among each other, (K,) and (U, K). The last is PRIVATE.
        """
        allowed = first.clone()
        allowed[list(self.writer.rules.suppressed_ids)] = -torch.inf
        # Chosen without the private records, or the choice would tell of them.
        options = allowed.topk(self.top_k).indices
        return options.tolist(), first[options].double().log_softmax(-1), others[:, options].double().log_softmax(-1)


@dataclass(frozen=True)
class _Arm:
    """One arm's texts."""

    name: Arm
    mechanism: ExponentialDraws | NonPrivateDraws
    scribe: Scribe
    units: UnitFile
    conditions: Sequence[Condition]
    expected_units: float
    """Of a text; from the noisy count, public."""
    run_dir: RunDir
    rounds: Path
    """Finished texts so far."""

    def write(self) -> None:
        """Goes on from the last text that was finished; writes the population."""
        began = time.monotonic()
        self.rounds.mkdir(parents=True, exist_ok=True)
        decoder = JointDecoder(self.scribe.slots, self.scribe.prefix)
        texts = self._gather()
        if isinstance(self.mechanism, ExponentialDraws) and not self.run_dir.path("self_checks").is_file():
            write_json(self.run_dir.path("self_checks"), to_rows(self._check(self.mechanism, decoder, texts)))
        path = self.rounds / "texts.jsonl"
        done = {row["place"] for row in _read_finished(path)}
        with show_progress(f"predict {self.name}", len(texts), done=len(done)) as progress, open(path, "a", encoding="utf-8") as file:

            def keep(text: JointText, decoded: Decoded) -> None:
                # On disk at once; a text that is computed again is drawn from the same numbers.
                file.write(json.dumps({"place": text.place, **self._parse(decoded)}, ensure_ascii=False) + "\n")
                file.flush()
                progress.advance()

            decoder.decode([text for text in texts if text.place not in done], self._draw, keep)
            os.fsync(file.fileno())
        rows = sorted(_read_finished(path), key=lambda row: row["place"])
        written = [self._to_exemplar(row) for row in rows if row["text"]]
        say(f"predict {self.name}: {len(written):,} of {len(texts):,} texts have the form of a record; the others are left out")
        if not written:
            raise PennameError("predict: no text has the form of records.completion_template; put an example into records.prompt_template")
        num_units = sum(len(text.others) for text in texts)
        row = {"step": 0, "loss": None, "num_units": num_units, "num_records": num_units, "num_texts": len(texts), "num_parsed": len(written)}
        write_rows(self.run_dir.path(f"train_metrics_{self.name}"), [{**row, "secs": round(time.monotonic() - began, 3)}])
        write_rows(self.run_dir.path(f"population_{self.name}"), (asdict(one) for one in written))

    def _gather(self) -> list[JointText]:
        """Every text with its prompts: each unit stands in one, with one of its records."""
        places: dict[tuple[int, str], list[int]] = {}
        for place, condition in enumerate(self.conditions):
            places.setdefault((condition.rating, condition.category), []).append(place)
        records = [self.units.find_places(index) for index in range(len(self.units))]
        chosen = self.mechanism.choose_records(np.array([len(own) for own in records], dtype=np.int64))
        rows = [self.units.read_record(own[which]) for own, which in zip(records, chosen.tolist(), strict=True)]
        open_to = [places.get((int(row["rating"]), str(row["category"])), []) for row in rows]
        groups = self.mechanism.assign_groups(np.array([len(own) for own in open_to], dtype=np.int64))
        prompts: dict[int, list[tuple[int, ...]]] = {}
        for row, own, which in zip(rows, open_to, groups.tolist(), strict=True):
            if which >= 0 and (prompt := self.scribe.encode_unit(row, self.conditions[own[which]])) is not None:
                prompts.setdefault(own[which], []).append(prompt)
        encode = self.scribe.writer.encode
        return [JointText(place, encode(condition), tuple(prompts.get(place, ()))) for place, condition in enumerate(self.conditions)]

    def _draw(self, place: int, number: int, first: torch.Tensor, others: torch.Tensor) -> int:
        options, public, said = self.scribe.read_scores(first, others)
        scores = self.mechanism.bound_scores(public.cpu().numpy(), said, expected_units=self.expected_units)
        return options[self.mechanism.draw(place, number, scores)]

    def _parse(self, decoded: Decoded) -> dict[str, str | None]:
        completion = self.scribe.writer.tokenizer.decode(decoded.token_ids)
        parsed = self.scribe.asked.template.parse_completion(completion) if decoded.finish_reason == "stop" else None
        return {"title": None, "text": None} if parsed is None else {"title": parsed[0], "text": parsed[1]}

    def _to_exemplar(self, row: dict[str, Any]) -> Exemplar:
        condition = self.conditions[row["place"]]
        return Exemplar(condition.rating, condition.category, condition.product_title, row["title"], row["text"])

    def _check(self, mechanism: ExponentialDraws, decoder: JointDecoder, texts: Sequence[JointText]) -> list[CheckResult]:
        """Checks the mechanism on a few of the run's own units, before the first draw.

        Raises:
          SelfCheckError: names the check that failed.
        """
        probes = [text.others[0] for text in texts if text.others][:_NUM_PROBE_UNITS]
        first = texts[0].first
        continuation = first[-_NUM_PROBE_TOKENS:]

        def score_units(indices: Sequence[int]) -> tuple[torch.Tensor, list[BoundedScores]]:
            logits = decoder.score([first, *(probes[i] for i in indices)], continuation)
            steps = [self.scribe.read_scores(logits[0, step], logits[1:, step]) for step in range(len(continuation))]
            scores = [mechanism.bound_scores(public.cpu().numpy(), said, expected_units=self.expected_units) for _, public, said in steps]
            return torch.stack([said for _, _, said in steps], dim=1), scores

        began = time.monotonic()
        checks = [self.scribe.nothing_trains, *check_draws(mechanism, score_units, num_probe_units=len(probes))]
        say(f"self-check: {', '.join(check.name for check in checks)} hold on this data ({time.monotonic() - began:.1f} s)")
        return checks


def _read_finished(path: Path) -> list[dict[str, Any]]:
    """Finished texts; a line that was cut by a crash is dropped."""
    if not path.is_file():
        return []
    raw = path.read_bytes()
    if not raw.endswith(b"\n"):
        os.truncate(path, raw.rfind(b"\n") + 1)
    return list(read_rows(path))
