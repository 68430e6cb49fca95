import pytest
import torch

from penname.config import Config
from penname.generate.slot_cache import LayerShape, SlotCache
from penname.model.free_memory import ModelShape
from penname.plan.known_models import KNOWN_MODELS
from penname.plan.memory import estimate_generation_memory, estimate_training, find_largest_tile

SHAPE = ModelShape(3, 32, 48, 4, 2, 8, 259, has_own_head=False)
LLAMA = KNOWN_MODELS["llama-3.1-8b"]


def test_keys_and_values_take_what_the_cache_takes():
    layer = LayerShape(SHAPE.num_key_heads, SHAPE.head_size, SHAPE.head_size, torch.bfloat16)
    cache = SlotCache([layer] * SHAPE.num_layers, prefix_length=11, num_slots=5, tokens_per_slot=70, device=torch.device("cpu"))
    real = sum(tensor.nbytes for tensor in (*cache.keys, *cache.values, *cache.prefix_keys, *cache.prefix_values))
    assert estimate_generation_memory(SHAPE, weight_bytes=2, num_slots=5, tokens_a_text=70, num_prefix_tokens=11).keys_and_values == real


def test_the_largest_tile_is_the_last_that_fits():
    config = Config()
    need = estimate_training(LLAMA, config, weight_bytes=2, tile_tokens=256).total
    found = [find_largest_tile(LLAMA, config, weight_bytes=2, room_bytes=room, sizes=(64, 128, 256, 512)) for room in (need, need - 1, 1e9)]
    assert found == [256, 128, None]


@pytest.mark.parametrize("tile_tokens", [512, 4096])
def test_checkpointing_keeps_less(tile_tokens: int):
    plain, recomputed = Config(), Config.model_validate({"train": {"gradient_checkpointing": True}})
    sizes = [estimate_training(LLAMA, config, weight_bytes=2, tile_tokens=tile_tokens) for config in (plain, recomputed)]
    assert sizes[1].activations < sizes[0].activations / 3
    assert sizes[1].total - sizes[0].total == sizes[1].activations - sizes[0].activations
