"""The stage: plans the privacy of the run, charges the ledger, trains the arms."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from penname.config import Config, ModelConfig
from penname.distributed.launch import read_launch
from penname.model.adapter import adapter_weights, hash_start, is_trainable, save_adapter
from penname.model.base import load_base_model
from penname.model.device import settle_kernels
from penname.model.frozen_layers import FrozenLayers, keep_frozen_layers
from penname.privacy.budget import check_delta
from penname.privacy.clipping import BoundedSum
from penname.privacy.keystream import Keystream
from penname.privacy.mechanism import DpSgd, NonPrivateSum
from penname.privacy.selfcheck import CheckResult, check_adapters_moved, check_mechanism, check_only_adapters_train, to_rows
from penname.progress import say
from penname.run_dir import RunDir, hash_path, hash_value, write_json
from penname.run_privacy import charge_run, open_keystream
from penname.schemas import Arm
from penname.train.arms import NonPrivateArm, PrivateArm
from penname.train.layout import Layout, Unit, count_tokens, sum_units
from penname.train.loop import ArmFiles, train_arm
from penname.train.memory import TileFile, UnitSummer
from penname.train.prepare import prepare_model
from penname.train.ranks import Ranks, SharedSummer, Summer, place_model
from penname.train.tracking import track_steps
from penname.train.training_units import TrainingUnits

if TYPE_CHECKING:
    from peft import PeftModel

# Each more costs one pass alone; two are enough to be each other's batch mates.
_NUM_PROBE_UNITS = 3
_NUM_PROBE_CANDIDATES = 256


def run_train(config: Config, run_dir: RunDir) -> None:
    """Trains every arm of `train.arms` that is not done yet, where `engine` says.

    Args:
      config: Sections `model`, `privacy`, `train`, `engine`, and `tracking`.
      run_dir: Holds train_records; gets the ledger, unit_count, and each arm's adapter and metrics.
    Raises:
      PrivacyError: the promise cannot be kept; nothing is charged then.
      DataError: no record fits.
      RunDirError: train_records is missing or damaged.
      ModelError: the base model cannot be loaded, adapted or trained as the config asks.
      EngineError: a rank failed or is lost; the run goes on from its last checkpoint when it is started again.
    """
    if config.engine.kind == "ray":
        from penname.train.cluster import train_on_ray

        train_on_ray(config, run_dir)
    else:
        train_here(config, run_dir)


def train_here(config: Config, run_dir: RunDir) -> None:
    """The training, with this process as rank 0; see `run_train`."""
    inputs_sha256 = hash_training_inputs(config, run_dir, num_ranks=read_launch().num_ranks)
    tile_file = TileFile(run_dir.path("unit_count").parent / "checkpoint" / "tile.json", inputs_sha256)
    # What could go wrong with model and data goes wrong before anything is charged; and before any record is read, for how much memory records
    # take must not decide on the tile.
    adapted, layout, tokenizer = _load_prepared(config, tile_file)
    prepared = [(adapted, layout)]
    del adapted
    units = TrainingUnits(run_dir.path("train_records"), tokenizer, max_tokens=config.train.max_record_tokens)
    if "with_dp" in config.train.arms:
        check_delta(config.privacy.delta, num_units=len(units))
    keystream = open_keystream(config, run_dir)
    mechanism = None
    if "with_dp" in config.train.arms:
        mechanism = charge_run(config, run_dir, keystream, num_units=len(units), inputs_sha256=tile_file.inputs_sha256)
    _keep_first_tile(config, tile_file, layout)
    if start := hash_start(config.train.start_adapter):
        # For the certificate: the folder may be gone by then.
        write_json(run_dir.path("start_adapter"), start)
    waiting: list[Arm] = [arm_name for arm_name in config.train.arms if not run_dir.path(f"adapter_{arm_name}").exists()]
    if waiting:
        # No other rank is called, let alone given a record, before everything is charged.
        with Ranks.open(timeout_secs=config.engine.timeout_secs) as ranks:
            for arm_name in waiting:
                _train_one(config, run_dir, arm_name, prepared, units, mechanism, keystream, tile_file, ranks)
    for folder in (tile_file.path.parent, *(_arm_dir(run_dir, arm_name) / "checkpoint" for arm_name in config.train.arms)):
        shutil.rmtree(folder, ignore_errors=True)


def _keep_first_tile(config: Config, tile_file: TileFile, layout: Layout) -> None:
    if layout.tile_tokens is None:
        return
    if tile_file.read() is None:
        tile_file.write(layout.tile_tokens)
        if config.train.physical_batch_tokens is None:
            say(f"train: {layout.tile_tokens} tokens at a time (train.physical_batch_tokens), chosen from free memory")
    if layout.tile_tokens < config.train.max_record_tokens:
        say(f"train.physical_batch_tokens: a record of more than {layout.tile_tokens} tokens does not fit; such a one is computed by itself, in more memory")


def hash_training_inputs(config: Config, run_dir: RunDir, *, num_ranks: int = 1) -> str:
    """Hash of everything that the training reads. What changes where or when it is computed, and no bit of it, is left out."""
    sections = {name: getattr(config, name).model_dump() for name in ("model", "privacy", "train")}
    for name in ("arms", "checkpoint_every_secs", "gradient_checkpointing", "start_adapter"):
        del sections["train"][name]
    for name in ("ledger", "ledger_epsilon"):
        del sections["privacy"][name]
    # Each rank has dropout masks of its own.
    ranks = {"num_ranks": num_ranks} if num_ranks > 1 and config.model.lora_dropout else {}
    return hash_value({**sections, **ranks, **hash_start(config.train.start_adapter), "train_records": hash_path(run_dir.path("train_records"))})


def _train_one(
    config: Config,
    run_dir: RunDir,
    arm_name: Arm,
    prepared: list[tuple[PeftModel, Layout]],
    units: TrainingUnits,
    mechanism: DpSgd | None,
    keystream: Keystream,
    tile_file: TileFile,
    ranks: Ranks,
) -> None:
    ranks.begin(config)
    # Out of the list, so that it is gone before the next arm's is loaded.
    adapted, layout = prepared.pop() if prepared else _load_prepared(config, tile_file)[:2]
    ranks.await_begun()
    arm, learning_rate = _build_arm(config, arm_name, adapted, mechanism, keystream, num_units=len(units))
    frozen = None
    if config.train.keep_frozen_states and layout.tile_tokens is not None:
        frozen = keep_frozen_layers(adapted, _arm_dir(run_dir, arm_name), tile_tokens=layout.tile_tokens, pad_id=layout.pad_id)
    share = partial(ranks.share, model=adapted, arm=arm)
    summer = share(UnitSummer(adapted, arm, layout, frozen, keep_tile=tile_file.write))
    summer.try_out()
    layout = summer.layout
    files = ArmFiles(_arm_dir(run_dir, arm_name) / "checkpoint" / "state.safetensors", run_dir.path(f"train_metrics_{arm_name}"))
    candidates = units.spread(_NUM_PROBE_CANDIDATES)
    checks = run_self_checks(adapted, candidates, arm, layout, config.model, frozen, summer=summer) if isinstance(arm, PrivateArm) else []
    # Only noise is sure to move everything: without it an empty first draw moves nothing.
    before = adapter_weights(adapted) if isinstance(arm, PrivateArm) else {}
    with track_steps(config, arm=arm_name, folder=_arm_dir(run_dir, arm_name)) as track:

        def log(row: dict[str, Any]) -> None:
            nonlocal before
            if before:
                checks.append(check_adapters_moved(before, adapter_weights(adapted)))
                before = {}
            track(row)

        train_arm(
            adapted,
            units,
            arm,
            config.train,
            files,
            layout=layout,
            frozen=frozen,
            keep_tile=tile_file.write,
            share=share,
            label=f"train {arm_name}",
            learning_rate=learning_rate,
            inputs_sha256=tile_file.inputs_sha256,
            log=log,
        )
    if before:
        # Every step was done by a process that was killed before it could write this.
        checks.append(check_adapters_moved(before, adapter_weights(adapted)))
    if isinstance(arm, PrivateArm):
        write_json(run_dir.path("self_checks"), to_rows(checks))
    save_adapter(adapted, run_dir.path(f"adapter_{arm_name}"), base_model_name=config.model.name)


def _load_prepared(config: Config, tile_file: TileFile) -> tuple[PeftModel, Layout, Any]:
    """A model ready to train, how records are laid out for it, and its tokenizer."""
    launch = read_launch()
    model, tokenizer = load_base_model(place_model(config.model, launch), trains=True)
    settle_kernels(model.device)
    # transformers declares it as whatever a tokenizer might hold.
    pad_id: Any = tokenizer.eos_token_id
    return *prepare_model(model, config.model, config.train, pad_id=pad_id, tile_tokens=tile_file.read(), num_local=launch.num_local), tokenizer


def _build_arm(
    config: Config, arm_name: Arm, adapted: PeftModel, mechanism: DpSgd | None, keystream: Keystream, *, num_units: int
) -> tuple[PrivateArm | NonPrivateArm, float]:
    """The arm, and its learning rate."""
    if arm_name == "with_dp":
        if mechanism is None:
            raise ValueError("the arm with_dp needs its mechanism")
        return PrivateArm.build(adapted, mechanism, engine_name=config.train.gradients), config.train.learning_rate
    sampling_prob = mechanism.sampling_prob if mechanism else min(1.0, config.train.expected_batch_size / num_units)
    arm = NonPrivateArm.build(adapted, NonPrivateSum(sampling_prob, config.train.num_steps, keystream))
    return arm, config.train.no_dp_learning_rate or config.train.learning_rate


def run_self_checks(
    adapted: Any,
    units: list[Unit],
    arm: PrivateArm,
    layout: Layout,
    config: ModelConfig,
    frozen: FrozenLayers | None = None,
    *,
    summer: Summer | None = None,
) -> list[CheckResult]:
    """Checks mechanism, gradients and adapter on a few of the run's own units, before the first step.

    Raises:
      SelfCheckError: names the check that failed.
    """
    only_adapters = check_only_adapters_train(dict(adapted.named_parameters()), is_adapter=lambda name: is_trainable(name, config))
    probes = choose_probes(units, layout)

    def sum_probes(indices: Sequence[int]) -> tuple[BoundedSum, torch.Tensor]:
        if frozen is not None:
            # Kept states would be those from the first batch, and hide what batch mates do to a record in the frozen layers.
            frozen.forget()
        return sum_units(adapted, [probes[i] for i in indices], arm, layout, frozen)

    # Dropout would give a record another mask in every batch: it is off here, and on again when training begins.
    adapted.eval()
    began = time.monotonic()
    checks = [only_adapters, *check_mechanism(arm.mechanism, sum_probes, num_probe_units=len(probes))]
    names = [check.name for check in checks]
    if isinstance(summer, SharedSummer):
        summer.check_ranks([probes, *([probe] for probe in probes)])
        names.append("ranks")
    say(f"self-check: {', '.join(names)} hold on this data and model ({time.monotonic() - began:.1f} s)")
    return checks


def choose_probes(units: Sequence[Unit], layout: Layout) -> list[Unit]:
    """Units for the self-check: one with several records where there is one, and others, as many as share a tile. PRIVATE."""
    by_size = sorted((unit for unit in units if unit), key=count_tokens)
    several = [unit for unit in by_size if len(unit) > 1]
    wanted = [*several[:1], by_size[0], by_size[len(by_size) // 2], by_size[len(by_size) // 4]]
    room = layout.tile_tokens if layout.tile_tokens is not None else math.inf
    probes: list[Unit] = []
    for unit in wanted:
        if not probes or (all(unit is not probe for probe in probes) and count_tokens(unit) <= room):
            probes.append(unit)
            room -= count_tokens(unit)
    return probes[:_NUM_PROBE_UNITS]


def _arm_dir(run_dir: RunDir, arm_name: Arm) -> Path:
    return run_dir.path(f"adapter_{arm_name}").parent
