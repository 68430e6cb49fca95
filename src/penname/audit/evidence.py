"""What the attacks work on: everything that an audit has gathered, read once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from penname.audit.candidates import Candidate, list_candidates
from penname.audit.probe import PromptedText, read_likelihoods, read_prompted
from penname.audit.twins import Twin, list_twins
from penname.config import Config
from penname.errors import DataError, ModelError
from penname.evaluate.evaluate import MIN_RUN_ROWS, build_samples
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.privacy.text_membership import ngram_echo_scores
from penname.evaluate.samples import Row, RowSet, Samples, seeded_generator
from penname.model.likelihood import TokenLikelihoods
from penname.records.canaries import Canary, count_canary_units, read_manifest
from penname.run_dir import RunDir, read_json, read_rows
from penname.schemas import BASE, Arm


@dataclass
class Evidence:
    """Of one audit. PRIVATE."""

    config: Config
    run_dir: RunDir
    _embed: Any = field(default=None, init=False, repr=False)
    _kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def arms(self) -> list[Arm]:
        """The arms that were trained."""
        return self.config.train.arms

    @cached_property
    def twins(self) -> list[Twin]:
        """One, or one a share of the original's experiment."""
        return list_twins(self.config, self.run_dir)

    @cached_property
    def counts(self) -> dict[str, Any]:
        """Unit, contribution bound and sizes of the splits, before planting."""
        return read_json(self.run_dir.path("records_counts"))

    @cached_property
    def canaries(self) -> list[Canary]:
        """With their coins."""
        return read_manifest(self.run_dir.path("canaries"))

    @cached_property
    def is_in(self) -> np.ndarray:
        """(n,) bool: the coins, canaries in their order."""
        return np.array([canary.is_in for canary in self.canaries], dtype=bool)

    @cached_property
    def num_units(self) -> np.ndarray:
        """(n,) units that carry each canary, or would."""
        return np.array([count_canary_units(canary, max_records_per_unit=self.counts["max_records_per_unit"]) for canary in self.canaries])

    @cached_property
    def candidates(self) -> list[Candidate]:
        """Whom the models were asked about."""
        return list_candidates(self.config, self.run_dir)

    def places(self, group: str) -> list[int]:
        """Places in `candidates` of a group whose records have a token to score."""
        scored = self.likelihoods(BASE).num_tokens
        return [place for place, candidate in enumerate(self.candidates) if candidate.group == group and scored[place] > 0]

    def likelihoods(self, model: str) -> TokenLikelihoods:
        """What base, or the model of an arm, thinks of every candidate.

        Raises:
          LeftOutError: the arm has no model of its own.
        """
        if model != BASE:
            self._check_model()
        return self._once(("likelihoods", model), lambda: read_likelihoods(self.run_dir, model))

    def prompted(self, arm: Arm) -> list[PromptedText]:
        """What an arm wrote when it was asked for canaries.

        Raises:
          LeftOutError: the arm has no model of its own.
        """
        self._check_model()
        return self._once(("prompted", arm), lambda: read_prompted(self.run_dir, arm))

    def _check_model(self) -> None:
        method = self.config.train.method
        if method != "dp_sgd":
            raise LeftOutError(f"{method} trains no model that could be asked; what it releases is text, and the text is attacked")

    def generator(self, stream: str) -> np.random.Generator:
        """Random numbers of the attacks; they depend on `audit.seed` and the name alone."""
        return seeded_generator(self.config.audit.seed, f"audit/{stream}")

    def rows(self, twin: Twin, arm: Arm) -> list[Row]:
        """The synthetic records of one arm of a twin, and the rest of what is released beside them: the population, where there is one."""
        return self._once(("rows", twin.name, arm), lambda: _read_released(twin.run_dir, arm))

    @cached_property
    def samples(self) -> Samples:
        """Of the one twin, for metrics on text: its training records with the canaries in them, the audit's heldout and test, its synthetic sets.

        Raises:
          DataError: there are too few records that were not trained on.
        """
        (twin,) = self.twins
        paths = [twin.run_dir.path("train_records"), self.run_dir.path("heldout_records"), self.run_dir.path("test_records")]
        train, heldout, test = ([_convert(row) for row in read_rows(path)] for path in paths)
        if len(heldout) < MIN_RUN_ROWS:
            # As in any evaluation. What asks about heldout records is left out all the same.
            test, heldout = test[::2], test[1::2]
        if min(len(heldout), len(test)) < MIN_RUN_ROWS:
            raise DataError(f"audit: {len(heldout)} heldout and {len(test)} test records are too few to compare with; raise records.test_frac")
        synthetic = {str(arm): self.rows(twin, arm) for arm in self.arms}
        return build_samples(train=train, heldout=heldout, test=test, synthetic=synthetic, config=self.config.evaluate, embed=self.embed)

    def embed(self, texts: list[str]) -> np.ndarray:
        """(n, D) embeddings of texts.

        Raises:
          LeftOutError: the embedding model is not there.
        """
        from penname.model.embedding import load_embedder

        try:
            self._embed = self._embed or load_embedder(self.config.evaluate.embedding_model)
        except ModelError as error:
            raise LeftOutError(str(error)) from None
        return self._embed.embed(texts)

    @property
    def control(self) -> RowSet:
        """Real rows that no candidate is among: test.

        Raises:
          LeftOutError: there are none.
        """
        if not len(self.samples.test):
            raise LeftOutError("there is no test record to take as control; set records.test_frac")
        return self.samples.take(self.samples.test, self.config.evaluate.max_records)

    def echo_of_canaries(self, arm: Arm) -> np.ndarray:
        """(n,) how much likelier the synthetic text of an arm makes each canary.

        Raises:
          LeftOutError: it has no words.
        """
        texts = [canary.whole for canary in self.canaries]
        return ngram_echo_scores(texts, self.samples.synthetic[arm].texts, self.control.texts)

    def _once(self, key: Any, compute: Any) -> Any:
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]


def _read_released(run_dir: RunDir, arm: Arm) -> list[Row]:
    rows, population = [_convert(row) for row in read_rows(run_dir.path(f"synthetic_{arm}"))], run_dir.path(f"population_{arm}")
    if population.is_file():
        known = {(row.title, row.text) for row in rows}
        rows += [_convert(row) for row in read_rows(population) if (row["title"], row["text"]) not in known]
    return rows


def _convert(values: dict[str, Any]) -> Row:
    fields = {name: values[name] for name in ("title", "text", "category", "product_title")}
    return Row(rating=float(values["rating"]), finish_reason=values.get("finish_reason", ""), **fields)
