"""Pages: lowest first, given back, copied; a text's tokens come back in order."""

import pytest
import torch

from penname.generate.slot_cache import PAGE_TOKENS, ROW_BLOCK, LayerShape, PromptAttention, PromptPart, SlotCache, StepAttention

SHAPE = LayerShape(num_heads=2, key_size=4, value_size=3, dtype=torch.float32)


def make_cache(*, num_slots=3, tokens_per_slot=3 * PAGE_TOKENS, prefix_length=0):
    return SlotCache([SHAPE], prefix_length=prefix_length, num_slots=num_slots, tokens_per_slot=tokens_per_slot, device=torch.device("cpu"))


def test_pages_are_taken_from_below_and_given_back():
    cache = make_cache()
    cache.reserve(0, 1)
    cache.reserve(1, PAGE_TOKENS + 1)
    cache.reserve(0, PAGE_TOKENS)
    assert cache.pages == [[1], [2, 3], []]
    cache.release(0)
    cache.reserve(2, 1)
    assert cache.pages == [[], [2, 3], [1]]
    cache.release(1, keep_tokens=PAGE_TOKENS)
    assert cache.pages[1] == [2]
    # Everything that was promised can be had.
    for slot in range(3):
        cache.reserve(slot, 3 * PAGE_TOKENS)
    assert sorted(page for pages in cache.pages for page in pages) == list(range(1, 10))


def random_rows(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(count, heads, size, generator=generator) for heads, size in ((4, 4), (2, 4), (2, 3)))


def expected_attention(query, keys, values):
    """One query (heads, size) over all keys (T, kv heads, size), by the definition."""
    result = []
    for head in range(4):
        weights = torch.softmax(keys[:, head // 2] @ query[head] * 0.5, dim=0)
        result.append(weights @ values[:, head // 2])
    return torch.stack(result)


@pytest.mark.parametrize("prefix_length", [0, 5])
@pytest.mark.parametrize("lengths", [(3, 40), (PAGE_TOKENS, PAGE_TOKENS + 1)])
def test_prompts_and_steps_attend_to_what_came_before_in_their_own_text(prefix_length, lengths):
    cache = make_cache(prefix_length=prefix_length)
    shared = random_rows(prefix_length, 1)
    if prefix_length:
        PromptAttention(cache, [PromptPart.plan(cache, None, 0, prefix_length)], 99).attend(0, *shared, scaling=0.5)
    texts = [random_rows(length, 10 + i) for i, length in enumerate(lengths)]
    for slot, length in enumerate(lengths):
        cache.reserve(slot, length + 1)
    # The second text comes in two pieces.
    cut = lengths[1] // 2
    for parts, rows in (
        ([(0, 0, lengths[0]), (1, 0, cut)], (texts[0], tuple(t[:cut] for t in texts[1]))),
        ([(1, cut, lengths[1] - cut)], (tuple(t[cut:] for t in texts[1]),)),
    ):
        attention = PromptAttention(cache, [PromptPart.plan(cache, *part) for part in parts], 99)
        found = attention.attend(0, *(torch.cat(same) for same in zip(*rows, strict=True)), scaling=0.5)
        start = 0
        for slot, kept, count in parts:
            for i in range(count):
                end = kept + i + 1
                keys, values = (torch.cat([shared[j], texts[slot][j][:end]]) for j in (1, 2))
                torch.testing.assert_close(found[start + i], expected_attention(texts[slot][0][end - 1], keys, values))
            start += count
    new = random_rows(ROW_BLOCK, 77)
    # The rows need not be in the order of the slots.
    step = StepAttention.plan(cache, {slot: lengths[slot] + 1 for slot in (1, 0)}, num_rows=ROW_BLOCK, longest=99)
    found = step.attend(0, *new, scaling=0.5)
    for row, slot in enumerate((1, 0)):
        keys, values = (torch.cat([shared[j], texts[slot][j], new[j][row : row + 1]]) for j in (1, 2))
        torch.testing.assert_close(found[row], expected_attention(new[0][row], keys, values))


@pytest.mark.parametrize("prefix_length", [0, 1, 5, 68])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_attends_the_same_bits_in_a_step_of_any_width(dtype, prefix_length):
    shape = LayerShape(num_heads=3, key_size=16, value_size=16, dtype=dtype)
    found = []
    rows = [torch.randn(128, heads, 16, generator=torch.Generator().manual_seed(heads)).to(dtype) for heads in (9, 3, 3)]
    for num_rows in (16, 48, 128):
        cache = SlotCache([shape], prefix_length=prefix_length, num_slots=num_rows, tokens_per_slot=70, device=torch.device("cpu"))
        generator = torch.Generator().manual_seed(1)
        for kept in (*cache.prefix_keys, *cache.prefix_values):
            kept.normal_(generator=generator)
        lengths = {slot: 1 + slot * 5 % 70 for slot in range(num_rows)}
        for slot, length in lengths.items():
            cache.reserve(slot, length)
            for kept in (*cache.keys, *cache.values):
                kept[cache.pages[slot]] = torch.randn(kept[cache.pages[slot]].shape, generator=torch.Generator().manual_seed(slot)).to(dtype)
        step = StepAttention.plan(cache, lengths, num_rows=num_rows, longest=99)
        found.append(step.attend(0, *(part[:num_rows] for part in rows), scaling=0.25)[:16])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_a_copied_prompt_reads_as_the_first():
    cache = make_cache()
    rows = random_rows(40, 5)
    cache.reserve(0, 40)
    PromptAttention(cache, [PromptPart.plan(cache, 0, 0, 40)], 99).attend(0, *rows, scaling=0.5)
    cache.copy_slot(0, 2, 40)
    assert set(cache.pages[0]).isdisjoint(cache.pages[2])
    for found, expected in zip(cache.read_slot(0, 2, 40), cache.read_slot(0, 0, 40), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(cache.read_slot(0, 2, 40)[0].transpose(0, 1), rows[1])
