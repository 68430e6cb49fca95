"""Weights & Biases, when asked for. Losses are PRIVATE figures: whoever asks for it sends them there (WANDB_MODE=offline keeps them here)."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from penname.config import Config
from penname.errors import UsageError


@contextmanager
def track_steps(config: Config, *, arm: str, folder: Path) -> Generator[Callable[[dict[str, Any]], None]]:
    """Gives a function that takes each step's figures.

    Raises:
      UsageError: wandb is asked for and not installed, or cannot start.
    """
    if config.tracking == "none":
        yield lambda row: None
        return
    try:
        import wandb
    except ImportError:
        raise UsageError("tracking: wandb is not installed; install penname[tracking] or set tracking=none") from None
    try:
        run = wandb.init(project="penname", name=arm, dir=str(folder), config=config.model_dump(), settings=wandb.Settings(silent=True))
    except (wandb.Error, OSError) as error:
        raise UsageError(f"tracking: wandb cannot start ({str(error).splitlines()[0]}); log in, set WANDB_MODE=offline, or tracking=none") from None
    try:
        yield lambda row: run.log({key: value for key, value in row.items() if value is not None}, step=row["step"])
    finally:
        run.finish()
