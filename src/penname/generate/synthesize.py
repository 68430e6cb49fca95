"""The stage: writes both synthetic data sets, redraws what does not parse, goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from penname.config import Config, GenerateConfig
from penname.errors import PennameError
from penname.generate.conditioning import Condition, plan_conditions, read_catalogue, release_conditioning
from penname.generate.decode import Decoded, Decoder, Request, Rules, find_prefix
from penname.generate.engines import check_engine, open_decoder
from penname.generate.exemplars import Exemplar, choose_exemplars, fill_prompt_after, read_population
from penname.generate.nucleus import Sampling
from penname.model.adapter import merge_adapter
from penname.model.base import load_base_model
from penname.model.tokenize import encode_prompt
from penname.progress import Progress, say, show_progress
from penname.run_dir import RunDir, hash_path, hash_value, write_json, write_rows
from penname.schemas import BASE, SyntheticRecord
from penname.template import RecordTemplate
from penname.text_form import has_fault

_NUM_BASE_RECORDS = 64
# So often a text is drawn at the most for being broken: where nearly all run into the limit, more would take long and change little.
_BROKEN_DRAWS = 3


def run_generate(config: Config, run_dir: RunDir) -> None:
    """Writes `generate.num_records` synthetic records for every arm, under the same conditions, and what the untrained model writes to them.

    Args:
      config: Sections `generate`, `records` (the template), `model`, `privacy` (the histogram's share).
      run_dir: Holds the adapters and the catalogue; gets conditioning, the synthetic sets, base_texts and generate_counts.
    Raises:
      PennameError: texts do not parse after `max_draws_per_record` draws.
      DataError: prompts need a product and the catalogue has none.
      ModelError: the engine is not installed, or a prompt and its text do not fit into the model.
    """
    check_engine(config.generate)
    products = read_catalogue(run_dir.path("catalogue"))
    template = RecordTemplate.from_config(config.records, has_products=bool(products))
    released = release_conditioning(config, run_dir)
    conditions = plan_conditions(
        released["cells"],
        products,
        num_records=config.generate.num_records,
        needs_product=template.needs_product_title,
        seed=config.generate.seed,
    )
    counts: dict[str, Any] = {}
    for arm in config.train.arms:
        rows = _write_set(config, run_dir.path(f"synthetic_{arm}"), arm, template, conditions, **_find_learned(config, run_dir, arm))
        num_draws = sum(row.num_draws for row in rows)
        counts[arm] = {"num_records": len(rows), "num_draws": num_draws, "num_redrawn": num_draws - len(rows)}
        say(f"generate: {len(rows):,} records {arm}, {num_draws - len(rows):,} of {num_draws:,} drawn texts did not parse, or were broken, and were redrawn")
    if num_base := count_base_records(config):
        rows = _write_set(config, run_dir.path("base_texts"), BASE, template, conditions[:num_base], adapter=None)
        say(f"generate: {len(rows):,} texts of the untrained model")
    write_json(run_dir.path("generate_counts"), counts)


def _find_learned(config: Config, run_dir: RunDir, arm: str) -> dict[str, Path | None]:
    """What the arm has learned: an adapter, or a population."""
    if config.train.method != "dp_sgd":
        return {"adapter": None, "population": run_dir.path(f"population_{arm}")}
    return {"adapter": run_dir.path(f"adapter_{arm}")}


def count_base_records(config: Config) -> int:
    """Texts that the untrained model writes.

    Args:
      config: Sections `generate` and `data`.
    """
    wanted = config.generate.num_base_records
    if wanted is None:
        wanted = _NUM_BASE_RECORDS if config.data.format == "sample" else 0
    return min(wanted, config.generate.num_records)


def _write_set(
    config: Config,
    target: Path,
    arm: str,
    template: RecordTemplate,
    conditions: Sequence[Condition],
    *,
    adapter: Path | None,
    population: Path | None = None,
) -> list[SyntheticRecord]:
    settings = config.generate.model_dump(exclude={"batch_size", "num_base_records"})
    learned = adapter or population
    key = hash_value([settings, config.model.name, asdict(template), learned and hash_path(learned), [asdict(c) for c in conditions]])
    partial = PartialFile(target.with_name(f".{target.name}.partial"), key)
    rows = partial.read()
    if population and config.train.method == "private_prediction":
        rows |= take_written(read_population(population), conditions, arm, config.generate.redraw_faults)
    if len(rows) < len(conditions) and config.engine.kind == "ray":
        from penname.generate.workers import write_on_workers

        with show_progress(f"generate {arm}", len(conditions), done=len(rows)) as progress:
            write_on_workers(config, arm, template, adapter, conditions, rows, partial.append, progress)
    elif len(rows) < len(conditions):
        model, tokenizer = load_base_model(config.model)
        writer = RecordWriter(tokenizer, template, config.generate, arm)
        prompts = writer.encode_all(conditions, read_population(population) if population else [])
        merged = model if adapter is None else merge_adapter(model, adapter)
        decoder = open_decoder(config.generate, merged, tokenizer, writer.rules, prompts=prompts, scratch=target.parent)
        with show_progress(f"generate {arm}", len(conditions), done=len(rows)) as progress:
            writer.write_all(decoder, conditions, prompts, rows, partial.append, progress)
    ordered = [rows[condition.record_id] for condition in conditions]
    write_rows(target, (asdict(row) for row in ordered))
    partial.path.unlink(missing_ok=True)
    return ordered


def take_written(population: Sequence[Exemplar], conditions: Sequence[Condition], arm: str, faults: Sequence[str]) -> dict[str, SyntheticRecord]:
    """Records that are there already: each text of the population without a fault fills one condition of its rating and category, in order."""
    waiting: dict[tuple[int, str], list[Exemplar]] = {}
    for one in reversed(population):
        if not has_fault(one.text, "stop", faults):
            waiting.setdefault(one.cell, []).append(one)
    found: dict[str, SyntheticRecord] = {}
    for condition in conditions:
        if own := waiting.get((condition.rating, condition.category)):
            one = own.pop()
            found[condition.record_id] = SyntheticRecord(
                record_id=condition.record_id,
                arm=arm,
                rating=one.rating,
                category=one.category,
                product_title=one.product_title,
                title=one.title,
                text=one.text,
                finish_reason="stop",
                num_draws=1,
            )
    return found


@dataclass(frozen=True)
class PartialFile:
    """Finished records of an unfinished arm, one a line after a line that says under which settings."""

    path: Path
    key: str

    def read(self) -> dict[str, SyntheticRecord]:
        """What is there under the same settings; a line cut by a crash is dropped."""
        lines = self.path.read_bytes().split(b"\n")[:-1] if self.path.is_file() else []
        if not lines or json.loads(lines[0]) != {"key": self.key}:
            self.path.write_text(json.dumps({"key": self.key}) + "\n", encoding="utf-8")
            return {}
        rows = [SyntheticRecord(**json.loads(line)) for line in lines[1:]]
        write_rows(self.path, [{"key": self.key}, *map(asdict, rows)])
        return {row.record_id: row for row in rows}

    def append(self, rows: Sequence[SyntheticRecord]) -> None:
        """Adds finished records."""
        with open(self.path, "a", encoding="utf-8") as handle:
            handle.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)


@dataclass(frozen=True)
class RecordWriter:
    """One arm's conditions as prompts, and its texts as records."""

    tokenizer: Any
    template: RecordTemplate
    config: GenerateConfig
    arm: str
    """with_dp, no_dp or base; what the untrained model writes is kept as it is where it does not parse."""

    @cached_property
    def rules(self) -> Rules:
        """How texts are drawn and where they end."""
        eos_id: int = self.tokenizer.eos_token_id
        suppressed = tuple(token for token in self.tokenizer.all_special_ids if token != eos_id)
        sampling = Sampling(self.config.temperature, self.config.top_p, self.config.max_new_tokens, self.config.min_p)
        return Rules(sampling, eos_id, suppressed, self._is_ended, self.template.end)

    def write_all(
        self,
        decoder: Decoder,
        conditions: Sequence[Condition],
        prompts: Sequence[tuple[int, ...]],
        done: dict[str, SyntheticRecord],
        save: Callable[[Sequence[SyntheticRecord]], None],
        progress: Progress,
    ) -> None:
        """Draws until every condition has a record that parses and is whole, or one that parses and as many draws as are worth it.

        Args:
          decoder: Writes the texts.
          conditions: All of them; a condition's place decides its random numbers.
          prompts: Of each.
          done: Finished records by id; gets the new ones.
          save: Keeps finished records on disk.
          progress: Counts finished records.
        Raises:
          PennameError: a condition has none after `max_draws_per_record` draws.
        """

        def keep(row: SyntheticRecord) -> None:
            save([row])
            done[row.record_id] = row
            progress.advance()

        places = [place for place, condition in enumerate(conditions) if condition.record_id not in done]
        failed = self.write(decoder, conditions, prompts, places, keep)
        check_all_parsed(self.config, self.arm, len(failed), num_records=len(conditions))

    def write(
        self,
        decoder: Decoder,
        conditions: Sequence[Condition],
        prompts: Sequence[tuple[int, ...]],
        places: Sequence[int],
        save: Callable[[SyntheticRecord], None],
    ) -> list[int]:
        """Draws until each of the places has a record that parses and is whole, or was drawn often enough; then the first that parsed is its.

        Args:
          decoder: Writes the texts.
          conditions: All of the run; a condition's place decides its random numbers.
          prompts: Of all conditions: a run that goes on, or a part of one, computes what the whole run would have.
          places: Which conditions to write.
          save: Gets each record as soon as it is finished.
        Returns:
          The places without a record that parses.
        """
        failed: list[int] = []
        broken: dict[int, SyntheticRecord] = {}

        def take(request: Request, text: Decoded) -> Request | None:
            _, place, draw = request.key
            row = self._parse(conditions[place], text, draw)
            if row is not None and not self._is_broken(row):
                save(row)
                broken.pop(place, None)
                return None
            if row is not None:
                broken.setdefault(place, row)
            again = self._next_draw(request)
            if place in broken and (again is None or draw >= _BROKEN_DRAWS):
                save(replace(broken.pop(place), num_draws=draw))
                return None
            if again is None:
                failed.append(place)
            return again

        requests = [Request((self.config.seed, place, 1), prompts[place]) for place in places]
        # The beginning that all prompts share, those of finished records too.
        decoder.decode(requests, take, prefix=find_prefix(prompts), next_draw=None if self.arm == BASE else self._next_draw)
        return failed

    def _next_draw(self, request: Request) -> Request | None:
        """What is drawn where this one does not parse."""
        seed, place, draw = request.key
        return Request((seed, place, draw + 1), request.prompt) if draw < self.config.max_draws_per_record else None

    def encode(self, condition: Condition) -> tuple[int, ...]:
        """The prompt of one condition as tokens."""
        prompt = self.template.fill_prompt(rating=condition.rating, category=condition.category, product_title=condition.product_title)
        return tuple(encode_prompt(self.tokenizer, prompt))

    def encode_all(self, conditions: Sequence[Condition], population: Sequence[Exemplar]) -> list[tuple[int, ...]]:
        """Prompts as tokens, each after one of the population where there is one."""
        if not population:
            return [self.encode(condition) for condition in conditions]
        chosen = choose_exemplars(population, conditions, seed=self.config.seed)
        return [self.encode_after(exemplar, condition) for exemplar, condition in zip(chosen, conditions, strict=True)]

    def encode_after(self, exemplar: Exemplar, condition: Condition) -> tuple[int, ...]:
        """The prompt of one condition as tokens, with an exemplar before it."""
        return tuple(encode_prompt(self.tokenizer, fill_prompt_after(self.template, exemplar, condition)))

    def _is_ended(self, token_ids: list[int]) -> bool:
        # The end mark may begin in the middle of a token, so a few tokens more than it has characters are looked at.
        end = self.template.end
        return bool(end) and self._may_end(token_ids[-1]) and end in self.tokenizer.decode(token_ids[-len(end) - 2 :])

    @cached_property
    def _may_end(self) -> Callable[[int], bool]:
        """Whether a token can complete the end mark: it holds the mark's last character, or part of a character."""
        last = self.template.end[-1]

        @cache
        def may_end(token: int) -> bool:
            text = self.tokenizer.decode([token])
            return last in text or "\ufffd" in text

        return may_end

    def _is_broken(self, row: SyntheticRecord) -> bool:
        # What the untrained model writes is drawn once and kept as it is.
        return self.arm != BASE and has_fault(row.text, row.finish_reason, self.config.redraw_faults)

    def _parse(self, condition: Condition, text: Decoded, draw: int) -> SyntheticRecord | None:
        """The record, or None where the text does not have the form of the template. Of the untrained model nobody asks for the form."""
        completion = self.tokenizer.decode(text.token_ids)
        parsed = self.template.parse_completion(completion)
        if parsed is None and self.arm != BASE:
            return None
        title, body = parsed or ("", completion.strip())
        return SyntheticRecord(
            record_id=condition.record_id,
            arm=self.arm,
            rating=condition.rating,
            category=condition.category,
            product_title=condition.product_title,
            title=title,
            text=body,
            finish_reason=text.finish_reason,
            num_draws=draw,
        )


def check_all_parsed(config: GenerateConfig, arm: str, num_failed: int, *, num_records: int) -> None:
    """Checks that every condition has a record.

    Raises:
      PennameError: some have none that parses.
    """
    if num_failed:
        raise PennameError(
            f"generate: {num_failed:,} of {num_records:,} records of the arm {arm} did not parse after {config.max_draws_per_record} draws each: the model has "
            "not learned the form; train longer, or raise generate.max_draws_per_record"
        )
