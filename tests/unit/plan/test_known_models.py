import pytest

from penname.errors import UsageError
from penname.plan.known_models import KNOWN_MODELS, find_shape, read_shape


@pytest.mark.parametrize("name", KNOWN_MODELS)
def test_a_model_of_these_sizes_has_as_many_weights(name: str):
    """transformers builds it without memory, and counts."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = KNOWN_MODELS[name]
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_key_heads,
        head_dim=shape.head_size,
        tie_word_embeddings=not shape.has_own_head,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == shape.num_weights


@pytest.mark.parametrize(("name", "billions"), [("smollm2-135m", 0.135), ("smollm2-1.7b", 1.71), ("llama-3.2-3b", 3.21), ("llama-3.1-8b", 8.03)])
def test_the_sizes_are_those_of_the_names(name: str, billions: float):
    assert KNOWN_MODELS[name].num_weights / 1e9 == pytest.approx(billions, rel=0.005)


def test_names_are_found_as_people_write_them():
    assert find_shape("meta-llama/Llama-3.1-8B-Instruct") is KNOWN_MODELS["llama-3.1-8b"]
    assert find_shape("gpt2") is None
    with pytest.raises(UsageError, match="--model-size: 'gpt2' is not known; known are smollm2-135m"):
        read_shape("gpt2")
