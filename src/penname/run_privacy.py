"""The privacy of one run: its key, its promise and its shares, from the config and the run folder. Train and generate both charge it."""

from __future__ import annotations

from penname.config import Config
from penname.privacy.budget import Budget
from penname.privacy.keystream import Keystream
from penname.privacy.ledger import Promise
from penname.privacy.unit import NEIGHBORING_RELATION
from penname.run_dir import RunDir, read_json


def open_keystream(config: Config, run_dir: RunDir) -> Keystream:
    """The randomness of this run: a key from the operating system, or the seed that the config names."""
    if config.privacy.noise_seed is not None:
        return Keystream.from_seed(config.privacy.noise_seed)
    return Keystream.from_key_file(run_dir.path("noise_key"))


def plan_budget(config: Config, run_dir: RunDir, keystream: Keystream) -> Budget:
    """The promise of this run and its shares; deterministic, so every stage that asks gets the same."""
    counts = read_json(run_dir.path("records_counts"))
    promise = Promise(
        target_epsilon=config.privacy.target_epsilon,
        delta=config.privacy.delta,
        privacy_unit=counts["privacy_unit"],
        neighboring_relation=NEIGHBORING_RELATION,
        noise_source=keystream.source,
    )
    bound = counts["max_records_per_unit"]
    return Budget.plan(promise, marginals_frac=config.privacy.marginals_frac, max_records_per_unit=bound, keystream=keystream)
