"""A message comes out as it went in, and what is no message is refused."""

from collections import deque

import pytest
import torch

from penname.distributed.errors import EngineError
from penname.distributed.message import Message, receive_message, send_message


class Wire:
    """Carries tensors as a connection does: whoever receives must know the size and the type."""

    def __init__(self):
        self.sent = deque()

    def send(self, tensor):
        self.sent.append(tensor.clone())

    def receive(self, tensor):
        came = self.sent.popleft()
        assert (came.shape, came.dtype) == (tensor.shape, tensor.dtype)
        tensor.copy_(came)


TENSORS = {
    "sums": torch.tensor([1.0, float("nan"), -0.0, 2.0**-60], dtype=torch.float64),
    "none": torch.zeros(0, dtype=torch.int32),
    "square": torch.arange(6, dtype=torch.float32).view(2, 3).T,
    "ids": torch.tensor([2**40], dtype=torch.int64),
}


def test_a_message_comes_out_as_it_went_in():
    wire = Wire()
    first = Message("sum", {"text": "Zoë\n\0", "number": 2**60, "none": None, "list": [1, [2.5]]}, TENSORS)
    second = Message("end")
    send_message(first, wire.send)
    send_message(second, wire.send)
    came = receive_message(wire.receive)
    assert (came.kind, came.fields, list(came.tensors)) == (first.kind, first.fields, list(TENSORS))
    for name, tensor in TENSORS.items():
        assert came.tensors[name].dtype == tensor.dtype
        assert came.tensors[name].numpy().tobytes() == tensor.contiguous().numpy().tobytes()
    assert receive_message(wire.receive) == second
    assert not wire.sent


@pytest.mark.parametrize("header", [b"", b"{", b"[]", b'{"kind": "sum"}', b'{"kind": "sum", "fields": {}, "tensors": {"x": ["complex64", [1]]}}', b"\xff"])
def test_what_is_no_message_is_refused(header):
    wire = Wire()
    wire.send(torch.tensor([len(header)]))
    wire.send(torch.tensor(list(header), dtype=torch.uint8))
    with pytest.raises(EngineError, match="is no message of penname"):
        receive_message(wire.receive)


def test_a_header_of_any_length_is_not_waited_for():
    wire = Wire()
    wire.send(torch.tensor([2**50]))
    with pytest.raises(EngineError, match="is no message of penname"):
        receive_message(wire.receive)
