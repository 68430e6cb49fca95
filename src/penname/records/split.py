"""Who is in train, heldout and test: each unit by its own keyed hash, so that one unit's presence never moves another."""

from __future__ import annotations

from typing import Literal

from penname.config import RecordsConfig
from penname.privacy.unit import keyed_fraction

Split = Literal["train", "heldout", "test"]
SPLITS: tuple[Split, ...] = ("train", "heldout", "test")


def split_by_unit(unit_id: str, config: RecordsConfig) -> Split | None:
    """The split of one unit, or None when it does not take part (`keep_frac`).

    Args:
      unit_id: The unit. PRIVATE.
      config: Shares and seed.
    """
    if keyed_fraction(config.seed, "keep", unit_id) >= config.keep_frac:
        return None
    fraction = keyed_fraction(config.seed, "split", unit_id)
    if fraction < config.test_frac:
        return "test"
    return "heldout" if fraction < config.test_frac + config.heldout_frac else "train"
