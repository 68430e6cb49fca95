"""Stacks of linear layers: the sums of frozen layers and adapters, their gradients, and which layers are taken."""

import pytest
import torch
from torch import nn

from penname.config import ModelConfig
from penname.model.adapter import attach_adapter
from penname.model.linear_stack import LinearStack
from tests.conftest import make_tiny_llama

NUM_TOKENS = 11


def make_linears(**config):
    """The query, key and value projections of an adapted layer, the adapters moved away from zero."""
    model = attach_adapter(make_tiny_llama().requires_grad_(False), ModelConfig(**{"lora_rank": 3, "top_layers": None, **config}), seed=1)
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    attention = model.get_base_model().model.layers[0].self_attn
    return [attention.q_proj, attention.k_proj, attention.v_proj]


def compute(stack, tokens):
    inputs = stack.make_inputs(len(tokens))
    inputs[:, : stack.num_inputs] = tokens
    stack.lower(inputs)
    return inputs


def differentiate(stack, inputs, away, **more):
    """The gradient of the inputs, and those of the weights by identity."""
    found = {}

    def report(parts, inputs, output_grads):
        product = output_grads.T @ inputs
        found.update({id(part.weight): product[part.outputs, part.inputs] for part in parts})

    grads = stack.make_output_grads(len(away))
    grads[:, : stack.num_outputs] = away
    return stack.backward(inputs[:, : stack.num_inputs], inputs[:, stack.num_inputs :], grads, report, **more), found


CONFIGS = [{}, {"lora_alpha": 5.0}, {"target_modules": ["q_proj", "v_proj"]}, {"target_modules": ["k_proj"]}, {"target_modules": ["o_proj"]}]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_outputs_and_gradients_are_those_of_the_layers(config):
    linears = make_linears(**config)
    tokens = torch.randn(NUM_TOKENS, linears[0].in_features, generator=torch.Generator().manual_seed(3)).requires_grad_()
    expected = torch.cat([linear(tokens) for linear in linears], dim=1)
    away = torch.randn(expected.shape, generator=torch.Generator().manual_seed(4))
    stack = LinearStack(linears)
    expected_grads = torch.autograd.grad(expected, [tokens, *stack.parameters()], away)
    with torch.no_grad():
        inputs = compute(stack, tokens)
        torch.testing.assert_close(stack.compute(inputs), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(stack.compute(inputs, slice(3, 9)), expected[:, 3:9], rtol=1e-4, atol=1e-5)
        input_grads, found = differentiate(stack, inputs, away)
    for ours, own in zip([input_grads, *(found[id(weight)] for weight in stack.parameters())], expected_grads, strict=True):
        torch.testing.assert_close(ours, own, rtol=1e-4, atol=1e-5)


def test_the_first_layer_computes_no_gradient_of_its_inputs_and_reports_all_the_same():
    stack = LinearStack(make_linears())
    inputs = compute(stack, torch.randn(NUM_TOKENS, stack.num_inputs))
    with torch.no_grad():
        input_grads, found = differentiate(stack, inputs, torch.randn(NUM_TOKENS, stack.num_outputs), is_first=True)
    assert input_grads.numel() == 0
    assert len(found) == 6


def test_a_frozen_a_is_not_reported():
    stack = LinearStack(make_linears(freeze_lora_a=True))
    inputs = compute(stack, torch.randn(NUM_TOKENS, stack.num_inputs))
    with torch.no_grad():
        _, found = differentiate(stack, inputs, torch.randn(NUM_TOKENS, stack.num_outputs))
    assert sorted(found) == sorted(map(id, stack.parameters()))
    assert len(found) == 3


def test_what_a_step_did_to_an_adapter_is_in_the_next_outputs():
    linears = make_linears()
    stack, tokens = LinearStack(linears), torch.randn(NUM_TOKENS, linears[0].in_features)
    before = stack.compute(compute(stack, tokens))
    with torch.no_grad():
        for weight in stack.parameters():
            weight.mul_(-0.5)
        after = stack.compute(compute(stack, tokens))
        torch.testing.assert_close(after, torch.cat([linear(tokens) for linear in linears], dim=1), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(after, before, atol=1e-3)


def test_taken_over_weights_keep_their_values_and_are_in_memory_once():
    linears = make_linears()
    before = [linear.base_layer.weight.clone() for linear in linears]
    LinearStack(linears).take_over()
    assert all(torch.equal(linear.base_layer.weight, weight) for linear, weight in zip(linears, before, strict=True))
    assert len({linear.base_layer.weight.untyped_storage().data_ptr() for linear in linears}) == 1


def test_layers_that_are_more_than_they_seem_are_refused():
    trainable, with_bias = nn.Linear(4, 4, bias=False), nn.Linear(4, 4).requires_grad_(False)
    for linear in (trainable, with_bias, nn.Identity()):
        with pytest.raises(ValueError, match="not a"):
            LinearStack([linear])
    with pytest.raises(ValueError, match="not a plain adapter"):
        LinearStack(make_linears(lora_dropout=0.1))
