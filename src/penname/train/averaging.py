"""The mean of the adapter's weights over the last steps of a training: less of the noise of each, at no privacy, for it is made of released weights alone."""

from __future__ import annotations

from typing import Any

import torch

from penname.privacy.gradients import trainable_parameters


class IterateAverage:
    """A running mean; with `last_frac` 0 there is none, and the last weights are the result.

    Source: Polyak and Juditsky (1992), doi:10.1137/0330046; over the last steps: Rakhlin, Shamir and Sridharan (2012), https://arxiv.org/abs/1109.5647;
    for DP-SGD: De et al. (2022), https://arxiv.org/abs/2204.13650
    """

    def __init__(self, *, num_steps: int, last_frac: float) -> None:
        """Args: num_steps of the training; last_frac, the share of them whose weights are averaged, at least one step where it is above 0."""
        self._first = num_steps - max(1, round(num_steps * last_frac)) if last_frac else num_steps
        self.mean: dict[str, torch.Tensor] = {}
        """Name -> float32, as far as it has come."""

    def add(self, model: Any, *, step: int) -> None:
        """Takes the weights after this step; steps come in order, each once."""
        if step < self._first:
            return
        for name, parameter in trainable_parameters(model):
            mean = self.mean.setdefault(name, torch.zeros_like(parameter.data))
            mean += (parameter.data - mean) / (step - self._first + 1)

    def put_into(self, model: Any) -> None:
        """Makes the mean the model's weights, where there is one."""
        for name, parameter in trainable_parameters(model):
            if name in self.mean:
                parameter.data.copy_(self.mean[name])
