"""Private evolution: the model stays as it is. It writes candidates, private records vote, and the best become examples for the next ones.

Source: Lin et al. (2024), https://arxiv.org/abs/2305.15560; Xie et al. (2024), for texts, https://arxiv.org/abs/2403.01749
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from penname.config import Config, GenerateConfig
from penname.errors import PennameError
from penname.generate.conditioning import Condition
from penname.generate.decode import Decoder
from penname.generate.engines import open_decoder
from penname.generate.exemplars import Exemplar, choose_exemplars, read_population
from penname.generate.prompt_cells import PromptCells
from penname.generate.record_embeddings import RecordEmbeddings
from penname.generate.synthesize import RecordWriter
from penname.generate.votes import Ballot, Embedded, sum_votes
from penname.model.base import load_base_model
from penname.model.device import settle_kernels
from penname.model.embedding import load_embedder
from penname.privacy.budget import check_delta
from penname.privacy.clipping import BoundedSum
from penname.privacy.errors import SelfCheckError
from penname.privacy.mechanism import DpSgd, NonPrivateSum
from penname.privacy.selfcheck import CheckResult, check_mechanism, check_only_adapters_train, to_rows
from penname.progress import Progress, say, show_progress
from penname.run_dir import RunDir, hash_path, hash_value, read_rows, write_json, write_rows
from penname.run_privacy import charge_run, open_keystream
from penname.schemas import Arm, SyntheticRecord
from penname.unit_file import UnitFile

_NUM_PROBE_UNITS = 3
# A prompt may be longer than its exemplar's tokens and its own: tokens join otherwise where two texts meet.
_SLACK_TOKENS = 16


def run_evolution(config: Config, run_dir: RunDir) -> None:
    """Lets every arm of `train.arms` that is not done yet evolve a population.

    Args:
      config: Sections `model`, `privacy`, `train`, `evolve` and `records` (the template).
      run_dir: Holds train_records and the catalogue; gets the ledger, unit_count, and each arm's population and metrics.
    Raises:
      PrivacyError: the promise cannot be kept; nothing is charged then.
      ModelError: a model cannot be loaded, or prompts do not fit into it.
      PennameError: the untrained model does not write the template's form.
    """
    waiting: list[Arm] = [arm for arm in config.train.arms if not run_dir.path(f"population_{arm}").exists()]
    if not waiting:
        return
    units = UnitFile(run_dir.path("train_records"))
    if "with_dp" in config.train.arms:
        check_delta(config.privacy.delta, num_units=len(units))
    # What could go wrong with the models goes wrong before anything is charged.
    author = Author.open(config, run_dir)
    embedder = load_embedder(config.evolve.embedding_model)
    inputs_sha256 = hash_inputs(config, run_dir)
    # The first candidates know nothing of the data: all arms begin with the same.
    first = _keep(run_dir.path("unit_count").parent / "checkpoint" / f"candidates_{inputs_sha256[:16]}.jsonl", author.begin)
    keystream, mechanism = open_keystream(config, run_dir), None
    if "with_dp" in config.train.arms:
        mechanism = charge_run(config, run_dir, keystream, num_units=len(units), inputs_sha256=inputs_sha256)
    for arm in waiting:
        sampling_prob = mechanism.sampling_prob if mechanism else min(1.0, config.train.expected_batch_size / len(units))
        own = mechanism if arm == "with_dp" and mechanism else NonPrivateSum(sampling_prob, config.train.num_steps, keystream)
        folder = run_dir.path(f"population_{arm}").parent
        with RecordEmbeddings.open(units, lambda text: embedder.embed([text])[0], width=embedder.width, folder=folder) as embedded:
            _Arm(arm, own, author, first, embedded, run_dir, folder / "rounds" / inputs_sha256[:16]).evolve()
        shutil.rmtree(folder / "rounds", ignore_errors=True)
    shutil.rmtree(run_dir.path("unit_count").parent / "checkpoint", ignore_errors=True)


def hash_inputs(config: Config, run_dir: RunDir) -> str:
    """Hash of everything that the evolution reads."""
    sections = {name: getattr(config, name).model_dump() for name in ("model", "privacy", "train", "evolve", "records")}
    for section, name in (("train", "arms"), ("privacy", "ledger"), ("privacy", "ledger_epsilon")):
        del sections[section][name]
    # A candidate that does not parse is drawn again as often as a record.
    return hash_value({**sections, "max_draws": config.generate.max_draws_per_record, "train_records": hash_path(run_dir.path("train_records"))})


@dataclass(frozen=True)
class Author:
    """The untrained model, which writes candidates."""

    writer: RecordWriter
    decoder: Decoder
    asked: PromptCells
    longest: int
    """Tokens that a prompt may have."""
    config: GenerateConfig
    num_candidates: int
    nothing_trains: CheckResult

    @classmethod
    def open(cls, config: Config, run_dir: RunDir) -> Author:
        """Loads the model.

        Raises:
          ModelError: it cannot be loaded, or a prompt with an exemplar before it does not fit into it.
        """
        asked, evolve = PromptCells.read(config, run_dir), config.evolve
        own = {name: getattr(evolve, name) for name in ("temperature", "top_p", "max_new_tokens", "seed")}
        generate = GenerateConfig(**own, batch_size=config.generate.batch_size, max_draws_per_record=config.generate.max_draws_per_record)
        model, tokenizer = load_base_model(config.model)
        settle_kernels(model.device)
        is_frozen = check_only_adapters_train(dict(model.named_parameters()), is_adapter=lambda _: False)
        writer = RecordWriter(tokenizer, asked.template, generate, "with_dp")
        longest = 2 * asked.find_longest_prompt(writer) + evolve.max_new_tokens + _SLACK_TOKENS
        decoder = open_decoder(generate, model, tokenizer, writer.rules, prompts=[[0] * longest], scratch=run_dir.path("unit_count").parent)
        return cls(
            writer,
            decoder,
            asked,
            longest,
            generate,
            max(evolve.num_candidates, len(asked.cells)),
            replace(is_frozen, detail="no weight of the model trains"),
        )

    def begin(self) -> list[Exemplar]:
        """Candidates to the plain prompts, as many for every rating and category.

        Raises:
          PennameError: less than half of them have the template's form.
        """
        cells = self.asked.cells
        conditions = self.asked.ask([cells[i % len(cells)] for i in range(self.num_candidates)], seed=(self.config.seed, 0))
        found = self._write(conditions, [self.writer.encode(condition) for condition in conditions], step=0)
        if 2 * len(found) < len(conditions):
            raise PennameError(
                f"evolve: only {len(found):,} of {len(conditions):,} texts of the untrained model have the form of records.completion_template; "
                "put an example into records.prompt_template, or take a larger model"
            )
        return list(found.values())

    def go_on(self, voted: Sequence[Exemplar], *, step: int) -> list[Exemplar]:
        """The next round's candidates: the better half of each rating and category, and as many new ones that have one of them as an example."""
        parents = select_parents(voted)
        cells = [parent.cell for parent in parents][: max(0, self.num_candidates - len(parents))]
        conditions = self.asked.ask(cells, seed=(self.config.seed, step))
        chosen = choose_exemplars(parents, conditions, seed=hash_seed(self.config.seed, step))
        found = self._write(conditions, [self._encode_after(one, condition) for one, condition in zip(chosen, conditions, strict=True)], step=step)
        return [*(replace(parent, votes=0.0) for parent in parents), *found.values()]

    def _encode_after(self, exemplar: Exemplar, condition: Condition) -> tuple[int, ...]:
        prompt = self.writer.encode_after(exemplar, condition)
        return prompt if len(prompt) <= self.longest else self.writer.encode(condition)

    def _write(self, conditions: Sequence[Condition], prompts: Sequence[tuple[int, ...]], *, step: int) -> dict[int, Exemplar]:
        """By place; those that do not parse are left out."""
        writer = replace(self.writer, config=self.config.model_copy(update={"seed": hash_seed(self.config.seed, step)}))
        places, found = {condition.record_id: i for i, condition in enumerate(conditions)}, dict[int, Exemplar]()
        with show_progress(f"evolve: candidates {step + 1}", len(conditions)) as progress:

            def keep(row: SyntheticRecord) -> None:
                found[places[row.record_id]] = Exemplar(row.rating, row.category, row.product_title, row.title, row.text)
                progress.advance()

            writer.write(self.decoder, conditions, prompts, range(len(conditions)), keep)
        return dict(sorted(found.items()))


def hash_seed(seed: int, step: int) -> int:
    """A seed for one round."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1)[0])


def select_parents(voted: Sequence[Exemplar]) -> list[Exemplar]:
    """The better half of each rating and category, by votes; at least one."""
    parents: list[Exemplar] = []
    for cell in dict.fromkeys(one.cell for one in voted):
        own = sorted((one for one in voted if one.cell == cell), key=lambda one: -one.votes)
        parents += own[: max(1, len(own) // 2)]
    return parents


@dataclass(frozen=True)
class _Arm:
    """One arm's evolution."""

    name: Arm
    mechanism: DpSgd | NonPrivateSum
    author: Author
    first: Sequence[Exemplar]
    """Candidates of the first round."""
    embedded: RecordEmbeddings
    run_dir: RunDir
    rounds: Path
    """Candidates and votes of the rounds so far."""

    def evolve(self) -> None:
        """Goes on from the last round that was finished; writes the population."""
        self.rounds.mkdir(parents=True, exist_ok=True)
        voted: list[Exemplar] = []
        num_steps = self.mechanism.num_steps
        for step in range(num_steps):
            path = self.rounds / f"voted_{step:03d}.jsonl"
            if not path.is_file():
                # On disk before anybody votes for them: what is voted for once is never written anew.
                candidates = _keep(self.rounds / f"candidates_{step:03d}.jsonl", partial(self._propose, voted, step))
                write_rows(path, (asdict(one) for one in self._vote(candidates, step)))
                say(f"evolve {self.name}: round {step + 1} of {num_steps}, {len(candidates):,} candidates")
            voted = read_population(path)
        write_rows(self.run_dir.path(f"population_{self.name}"), (asdict(one) for one in select_parents(voted)))

    def _propose(self, voted: Sequence[Exemplar], step: int) -> list[Exemplar]:
        return self.author.go_on(voted, step=step) if step else list(self.first)

    def _vote(self, candidates: Sequence[Exemplar], step: int) -> list[Exemplar]:
        """One round: the candidates with their votes."""
        began, mechanism = time.monotonic(), self.mechanism
        ballot = Ballot(candidates, self.embedded.embed)
        checks = [self.author.nothing_trains, *check_votes(mechanism, ballot, self.embedded)] if step == 0 and isinstance(mechanism, DpSgd) else []
        drawn = mechanism.draw_units(step, num_units=self.embedded.num_units)
        with show_progress(f"evolve {self.name}: votes {step + 1}", len(drawn)) as progress:
            units = (self._read(int(index), progress) for index in drawn)
            total, nearest = sum_votes(mechanism, ballot, units)
        votes = mechanism.release(step, total)
        if checks:
            write_json(self.run_dir.path("self_checks"), to_rows([*checks, check_votes_moved(total, votes)]))
        row = {
            "step": step,
            "loss": None,
            "num_units": total.num_units,
            "num_records": len(nearest),
            "num_candidates": len(candidates),
            "mean_likeness": float(np.mean(nearest)) if nearest else None,
            "secs": round(time.monotonic() - began, 3),
        }
        path = self.run_dir.path(f"train_metrics_{self.name}")
        before = [old for old in read_rows(path) if old["step"] < step] if path.is_file() else []
        write_rows(path, [*before, row])
        return [replace(one, votes=float(count)) for one, count in zip(candidates, votes.tolist(), strict=True)]

    def _read(self, index: int, progress: Progress) -> list[Embedded]:
        progress.advance()
        return self.embedded.read_unit(index)


def _keep(path: Path, make: Callable[[], list[Exemplar]]) -> list[Exemplar]:
    """Candidates from a round that was begun before, or new ones, on disk before anybody votes for them."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_rows(path, (asdict(one) for one in make()))
    return read_population(path)


def check_votes(mechanism: DpSgd, ballot: Ballot, embedded: RecordEmbeddings) -> list[CheckResult]:
    """Checks the mechanism on votes of a few of the run's own units, before the first round.

    Raises:
      SelfCheckError: names the check that failed.
    """
    probes = [unit for unit in (embedded.read_unit(i) for i in embedded.spread(_NUM_PROBE_UNITS)) if unit]

    def sum_probes(indices: Sequence[int]) -> Any:
        total, nearest = sum_votes(mechanism, ballot, [probes[i] for i in indices])
        return total, torch.tensor(nearest)

    began = time.monotonic()
    checks = check_mechanism(mechanism, sum_probes, num_probe_units=len(probes))
    say(f"self-check: {', '.join(check.name for check in checks)} hold on this data ({time.monotonic() - began:.1f} s)")
    return checks


def check_votes_moved(total: BoundedSum, votes: torch.Tensor) -> CheckResult:
    """The first round's noise changed the votes of every candidate, as it must.

    Raises:
      SelfCheckError: those of one are as they were.
    """
    if bool((total.value.float() == votes).any()):
        raise SelfCheckError("self-check adapters_moved: the first round's noise did not change the votes of every candidate")
    return CheckResult("adapters_moved", True, "there is no adapter; the first round's noise changed the votes of every candidate")
