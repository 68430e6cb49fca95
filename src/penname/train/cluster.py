"""The training on a Ray cluster: the same ranks, started and started again by Ray Train."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path
from typing import Any

from penname import errors
from penname.config import Config
from penname.distributed.errors import EngineError
from penname.distributed.launch import read_launch
from penname.distributed.message import Message
from penname.distributed.ray_ranks import run_ranks
from penname.distributed.world import World, is_connected
from penname.errors import PennameError, RunDirError
from penname.privacy import errors as privacy_errors
from penname.privacy.errors import PrivacyError
from penname.run_dir import MANIFEST, RunDir
from penname.train.follower import Follower
from penname.train.ranks import END
from penname.train.train import train_here

_OURS = {name: kind for module in (errors, privacy_errors) for name, kind in vars(module).items() if isinstance(kind, type) and issubclass(kind, Exception)}


def train_on_ray(config: Config, run_dir: RunDir) -> None:
    """Trains on `engine.num_workers` ranks; rank 0, which is one of them, must see the run folder.

    Args:
      config: Of the whole run.
      run_dir: Held by this process; rank 0 works in it.
    Raises:
      EngineError: the cluster does not answer, or ranks failed too often.
      PennameError, PrivacyError: what rank 0 raised; that is not tried again.
    """
    if read_launch().num_ranks > 1:
        raise EngineError("engine.kind: ray starts its own ranks; start penname without torchrun, or set engine.kind=local")
    engine, scratch = config.engine, run_dir.path("unit_count").parent / "checkpoint" / "ray"
    # Ray Train would go on from what a killed process left there.
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    resolved = config.model_copy(update={"model": config.model.named_from_root()})
    settings = {"config": resolved.model_dump(mode="json"), "root": str(run_dir.root.resolve())}
    try:
        answer = run_ranks(
            train_as_rank,
            settings,
            address=engine.address,
            num_ranks=engine.num_workers,
            threads_per_rank=engine.threads_per_worker,
            max_retries=engine.max_retries,
            wants_gpu=config.model.device != "cpu",
            scratch=scratch,
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if answer:
        raise _OURS.get(answer["kind"], EngineError)(answer["line"])


def train_as_rank(settings: dict[str, Any]) -> dict[str, Any]:
    """What each rank does.

    Args:
      settings: The config, and the run folder.
    Returns:
      Of rank 0: the error that ended the training where another try would end the same; else nothing.
    """
    if read_launch().is_follower:
        try:
            world = World.open()
            Follower(world).serve()
            world.close()
        except EngineError:
            # Rank 0 has ended. If it was lost, Ray knows; if it raised, that is what counts.
            return {}
        return {}
    root = Path(settings["root"])
    try:
        if not (root / MANIFEST).is_file():
            raise RunDirError(f"{root}: is not seen by {platform.node()}, where rank 0 is; put --out on a file system that all machines of the cluster share")
        train_here(Config.model_validate(settings["config"]), RunDir(root))
    except EngineError:
        raise
    except (PennameError, PrivacyError) as error:
        if not _send_home():
            # The others have been called and wait for orders: Ray ends them when it sees this rank fail.
            raise
        return {"kind": type(error).__name__, "line": str(error)}
    _send_home()
    return {}


def _send_home() -> bool:
    """Lets the others go where they still wait for a first order; else they were called, and are connected no more."""
    if not is_connected():
        return False
    world = World.open()
    for rank in world.followers:
        world.send(rank, Message(END))
    world.close()
    return True
