"""A few seconds of writing, by the decoder and under the rules of `penname generate`, before anything is trained."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from penname.config import Config
from penname.generate.decode import Decoded, Decoder, Request, find_prefix
from penname.generate.engines import open_decoder
from penname.generate.slots import ROWS, SlotDecoder
from penname.generate.synthesize import RecordWriter
from penname.model.adapter import merge_adapter
from penname.model.base import load_base_model
from penname.plan.rehearsal import Passes, Writing, rehearse
from penname.plan.texts import Texts

_NUM_PROMPTS = 8
_MIN_STEPS = 4
# Of the time, for steps of few texts.
_NARROW_FRAC = 0.2
# What is believed before anything is seen: one text in ten is drawn again, as strongly as one text would say it.
_PRIOR_UNPARSED, _PRIOR_TEXTS = 0.1, 1.0


@dataclass
class GenerationSpeed:
    """Seconds of the parts of writing, by measurement, and how texts end."""

    open_secs: float
    """To load the model, merge an adapter and make the decoder ready, once."""
    steps: list[StepTimes]
    """Of one more token for many texts at once, then, where a pass may have fewer rows, for few (without slots: for one text)."""
    writing: Writing
    widths: list[int]
    """Rows that a pass may have, ascending; none where texts are written one at a time."""

    def count_passes(self, texts: Texts, config: Config) -> Passes:
        """What the decoder computes for one arm."""
        slots = min(config.generate.batch_size, ROWS) if self.widths else 1
        passes = rehearse(texts.prompts, self.writing, num_records=config.generate.num_records, num_slots=slots, widths=self.widths or [ROWS])
        num_alone = passes.num_draws + passes.num_tokens
        return passes if self.widths else replace(passes, num_passes=num_alone, num_rows=num_alone)

    def decode_secs(self, passes: Passes, choose: Callable[[list[float]], float] = median) -> float:
        """Seconds of writing: so much a pass and so much a row. A pass over prompts is taken for a step of as many rows.

        Args:
          passes: Of one arm.
          choose: Of the measurements of one thing.
        """
        many, few = self.steps[0], self.steps[-1]
        secs, fewer_secs = choose(many.secs), choose(few.secs)
        a_row = max(0.0, secs - fewer_secs) / (many.num_rows - few.num_rows) if many.num_rows > few.num_rows else 0.0
        return passes.num_passes * (secs - many.num_rows * a_row) + passes.num_rows * a_row


@dataclass(frozen=True)
class StepTimes:
    """Measured seconds of steps with so many rows each."""

    num_rows: int
    secs: list[float]


def measure_generation(config: Config, texts: Texts, *, folder: Path, budget_secs: float) -> GenerationSpeed:
    """Writes texts to some of the prompts until the time is up.

    Args:
      config: Of the run.
      texts: Its prompts and template.
      folder: Holds an untrained adapter; for temporary files.
      budget_secs: No step begins after that.
    Raises:
      ModelError: a prompt and the longest text do not fit into the model, or the engine is not there.
    """
    began = time.monotonic()
    model, tokenizer = load_base_model(config.model)
    merged = merge_adapter(model, folder / "adapter")
    writer = RecordWriter(tokenizer, texts.template, config.generate, "no_dp")
    watches: list[_Watch] = []

    def is_ended(token_ids: list[int]) -> bool:
        return watches[-1].is_ended(token_ids)

    decoder = open_decoder(config.generate, merged, tokenizer, replace(writer.rules, is_ended=is_ended), prompts=texts.prompts, scratch=folder)
    open_secs = time.monotonic() - began
    prompts = texts.prompts[:_NUM_PROMPTS]
    requests = [Request((config.generate.seed, i, 1), prompts[i % len(prompts)]) for i in range(min(config.generate.batch_size, ROWS))]
    widths = decoder.widths if isinstance(decoder, SlotDecoder) else []
    steps: list[StepTimes] = []
    for count, frac in ((len(requests), 1 - _NARROW_FRAC), *((width, _NARROW_FRAC) for width in widths[:1] if width < len(requests))):
        watches.append(_Watch(writer, frac * budget_secs))
        watches[-1].run(decoder, requests[:count])
        steps.append(StepTimes(decoder.find_width(count) if isinstance(decoder, SlotDecoder) else 1, watches[-1].step_secs()))
    writing = Writing(watches[0].end_probs(), watches[0].unparsed_prob(), config.generate.max_new_tokens, config.generate.max_draws_per_record)
    return GenerationSpeed(open_secs, steps, writing, widths)


class _TimeIsUp(Exception):
    """The measurement ends in the middle of its texts."""


@dataclass
class _Watch:
    """Looks on while texts are written: the decoder asks it after every token whether the text is ended."""

    writer: RecordWriter
    budget_secs: float
    begins: list[float] = field(default_factory=list[float])
    """When each step was done."""
    num_ended: Counter[int] = field(default_factory=Counter[int])
    """Texts that ended with their token t."""
    num_reached: Counter[int] = field(default_factory=Counter[int])
    """Texts that got a token t."""
    num_parsed: int = 0
    num_unparsed: int = 0
    running: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    """Texts by their list's identity; kept here, so that none is given to another."""
    _of_step: set[int] = field(default_factory=set[int])

    def run(self, decoder: Decoder, requests: list[Request]) -> None:
        prompts = [request.prompt for request in requests]
        self._ends = time.monotonic() + self.budget_secs
        try:
            decoder.decode(requests, self._take, prefix=find_prefix(prompts))
        except _TimeIsUp:
            # What parses now will parse when it is finished; of the others nobody knows.
            parsing = sum(self._parses(token_ids) for token_ids in self.running.values())
            self.num_parsed += parsing

    def is_ended(self, token_ids: list[int]) -> bool:
        if id(token_ids) in self._of_step or not self.begins:
            now = time.monotonic()
            if now > self._ends and len(self.begins) > _MIN_STEPS:
                raise _TimeIsUp
            self.begins.append(now)
            self._of_step.clear()
        self._of_step.add(id(token_ids))
        self.running[id(token_ids)] = token_ids
        self.num_reached[len(token_ids)] += 1
        is_ended = self.writer.rules.is_ended(token_ids)
        self.num_ended[len(token_ids)] += is_ended
        return is_ended

    def _take(self, request: Request, text: Decoded) -> None:
        is_marked = self.running.get(id(text.token_ids)) is text.token_ids and self.writer.rules.is_ended(text.token_ids)
        if text.finish_reason == "stop" and not is_marked:
            # The end-of-text token, which no text holds.
            self.num_reached[len(text.token_ids) + 1] += 1
            self.num_ended[len(text.token_ids) + 1] += 1
        self.running.pop(id(text.token_ids), None)
        if self._parses(text.token_ids):
            self.num_parsed += 1
        else:
            self.num_unparsed += 1

    def _parses(self, token_ids: list[int]) -> bool:
        # Whether it is broken is not asked: an untrained model repeats itself and runs into the limit far more often than a trained one.
        return self.writer.template.parse_completion(self.writer.tokenizer.decode(token_ids)) is not None

    def step_secs(self) -> list[float]:
        """The first step is not among them: it waits for the prompts."""
        return [after - before for before, after in zip(self.begins, self.begins[1:], strict=False)] or [time.monotonic() - self._ends + self.budget_secs]

    def end_probs(self) -> list[float]:
        """For each token as far as was seen, then one for all later tokens: that of the second half of what was seen."""
        most = max(self.num_reached, default=1)
        later = range(most // 2 + 1, most + 1)
        reached, ended = sum(self.num_reached[t] for t in later), sum(self.num_ended[t] for t in later)
        seen = [self.num_ended[t] / self.num_reached[t] if self.num_reached[t] else 0.0 for t in range(1, most + 1)]
        return [*seen, max(ended, 0.5) / max(reached, 1)]

    def unparsed_prob(self) -> float:
        num_known = self.num_parsed + self.num_unparsed
        return (self.num_unparsed + _PRIOR_UNPARSED * _PRIOR_TEXTS) / (num_known + _PRIOR_TEXTS)
