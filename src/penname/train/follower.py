"""A rank that follows: it sums the units that rank 0 gives it, under the weights that rank 0 gives it, and keeps nothing on disk that has a name.

It has no key and no receipt, so it can neither draw units nor add noise.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from penname.config import ModelConfig, TrainConfig
from penname.distributed.errors import EngineError, first_line
from penname.distributed.message import Message
from penname.distributed.world import DEFAULT_TIMEOUT_SECS, World, await_call
from penname.model.base import load_base_model
from penname.model.device import settle_kernels
from penname.model.frozen_layers import keep_frozen_layers
from penname.privacy.gradients import trainable_parameters
from penname.privacy.keystream import KEY_BYTES, Keystream
from penname.privacy.mechanism import DpSgd, NonPrivateSum
from penname.train.arms import NonPrivateArm, PrivateArm, TrainingArm
from penname.train.layout import MIN_TILE_TOKENS, Layout
from penname.train.memory import UnitSummer
from penname.train.prepare import prepare_model
from penname.train.ranks import ADD, BEGIN, END, FAILED, STOP, WELL, decode_units, place_model

_NOBODYS_KEY = Keystream(bytes(KEY_BYTES), source="follower")


def follow_training(*, timeout_secs: float = DEFAULT_TIMEOUT_SECS) -> None:
    """Waits until rank 0 trains, and computes what it is given until rank 0 is done.

    Args:
      timeout_secs: For every message, once the training has begun.
    Raises:
      EngineError: rank 0 ended, or told why the training stops.
    """
    if not await_call():
        return
    world = World.open(timeout_secs=timeout_secs)
    try:
        Follower(world).serve()
    finally:
        world.close()


class Follower:
    """One rank's side of a training."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._model: Any = None
        self._train = TrainConfig()
        self._layout = Layout(None, 0)
        self._summer: UnitSummer | None = None
        self._mechanism: dict[str, Any] = {}

    def serve(self) -> None:
        """Answers orders until the last.

        Raises:
          EngineError: rank 0 ended, or told why the training stops.
        """
        while True:
            order = self._world.receive(0)
            if order.kind == END:
                return
            # Every rank takes part in it, also one that fails afterwards.
            weights = torch.zeros(order.fields.get("num_params", 0))
            if order.kind != BEGIN:
                self._world.spread(weights)
            value = torch.zeros(0)
            try:
                if order.kind == BEGIN:
                    self._load(order.fields)
                    reply = Message(WELL)
                else:
                    reply, value = self._sum(order, weights)
            except Exception as error:
                reply = Message(FAILED, {"line": first_line(error)})
            self._world.send(0, reply)
            verdict = self._world.receive(0)
            if verdict.kind == STOP:
                raise EngineError(f"{verdict.fields['line']} (rank {self._world.rank} stops with it)")
            if verdict.kind == ADD:
                self._world.add_up(value)

    def _load(self, fields: dict[str, Any]) -> None:
        # Of the arm before, so that two models are never in memory.
        self._model, self._summer, self._mechanism = None, None, {}
        model_config = ModelConfig.model_validate(fields["model"])
        self._train = TrainConfig.model_validate(fields["train"])
        model, tokenizer = load_base_model(place_model(model_config, self._world.launch), trains=True)
        settle_kernels(model.device)
        # Which tile it is, every order says.
        pad_id: Any = tokenizer.eos_token_id
        self._model, self._layout = prepare_model(model, model_config, self._train, pad_id=pad_id, tile_tokens=MIN_TILE_TOKENS)

    def _sum(self, order: Message, weights: torch.Tensor) -> tuple[Message, torch.Tensor]:
        fields = order.fields
        _set_weights(self._model, weights)
        summer = self._open_summer(fields["mechanism"], fields["tile_tokens"])
        self._model.train(fields["is_training"])
        torch.manual_seed(fields["seed"])
        units = decode_units(order.tensors)
        if not fields["is_kept"]:
            # Not what was kept of a record, but what this rank makes of it now, beside these.
            summer.forget()
        total, losses = summer.sum(units)
        reply = {"num_units": total.num_units, "num_clipped": total.num_clipped, "tile_tokens": summer.layout.tile_tokens}
        return Message(WELL, reply, {"losses": losses, **({"value": total.value} if fields["gives_value"] else {})}), total.value

    def _open_summer(self, mechanism: dict[str, Any], tile_tokens: int | None) -> UnitSummer:
        if self._summer is None or self._mechanism != mechanism:
            self._mechanism = mechanism
            layout = Layout(tile_tokens, self._layout.pad_id, self._layout.device)
            frozen = None
            if self._train.keep_frozen_states and tile_tokens is not None:
                frozen = keep_frozen_layers(self._model, Path(tempfile.gettempdir()), tile_tokens=tile_tokens, pad_id=layout.pad_id)
            self._summer = UnitSummer(self._model, self._build_arm(mechanism), layout, frozen)
        if tile_tokens is not None and tile_tokens != self._summer.layout.tile_tokens:
            self._summer.shrink(tile_tokens)
        return self._summer

    def _build_arm(self, mechanism: dict[str, Any]) -> TrainingArm:
        if mechanism["type"] == "non_private":
            return NonPrivateArm.build(self._model, NonPrivateSum(1.0, 1, _NOBODYS_KEY))
        noise_multiplier, sampling_prob, num_steps, l2_clip_norm = (
            mechanism[name] for name in ("noise_multiplier", "sampling_prob", "num_steps", "l2_sensitivity")
        )
        uncharged = DpSgd(noise_multiplier, sampling_prob, num_steps, l2_clip_norm, _NOBODYS_KEY)
        return PrivateArm.build(self._model, uncharged, engine_name=self._train.gradients)


def _set_weights(model: Any, flat: torch.Tensor) -> None:
    start = 0
    for _, parameter in trainable_parameters(model):
        parameter.data.copy_(flat[start : start + parameter.numel()].view_as(parameter))
        start += parameter.numel()
