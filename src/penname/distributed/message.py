"""What ranks send each other: JSON and tensors, no pickle."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from penname.distributed.errors import EngineError

DTYPES = {"float32": torch.float32, "float64": torch.float64, "int32": torch.int32, "int64": torch.int64}
_MAX_HEADER_BYTES = 1 << 28


@dataclass(frozen=True)
class Message:
    """One message."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    """JSON values."""
    tensors: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    """On the processor, of one of `DTYPES`."""


def send_message(message: Message, send: Callable[[torch.Tensor], None]) -> None:
    """Hands a message over as tensors: the length of its header, the header, then each tensor that is not empty.

    Args:
      message: As private as what is in it.
      send: Takes the tensors, in order.
    """
    forms = {name: [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)] for name, tensor in message.tensors.items()}
    header = json.dumps({"kind": message.kind, "fields": message.fields, "tensors": forms}).encode()
    send(torch.tensor([len(header)]))
    send(torch.frombuffer(bytearray(header), dtype=torch.uint8))
    for tensor in message.tensors.values():
        if tensor.numel():
            send(tensor.contiguous())


def receive_message(receive: Callable[[torch.Tensor], None]) -> Message:
    """The message whose tensors come in.

    Args:
      receive: Fills a tensor with what comes next.
    Raises:
      EngineError: what comes is no message.
    """
    length = torch.zeros(1, dtype=torch.int64)
    receive(length)
    if not 0 < int(length) <= _MAX_HEADER_BYTES:
        raise EngineError("ranks: what another rank sent is no message of penname; all ranks must run the same version")
    header = torch.zeros(int(length), dtype=torch.uint8)
    receive(header)
    try:
        value = cast("dict[str, Any]", json.loads(header.numpy().tobytes()))
        tensors = {name: torch.empty(shape, dtype=DTYPES[dtype]) for name, (dtype, shape) in value["tensors"].items()}
        message = Message(str(value["kind"]), dict(value["fields"]), tensors)
    except (ValueError, KeyError, TypeError, RuntimeError):
        raise EngineError("ranks: what another rank sent is no message of penname; all ranks must run the same version") from None
    for tensor in tensors.values():
        if tensor.numel():
            receive(tensor)
    return message
