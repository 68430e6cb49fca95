"""Continuous batching: every text is the one that it would be alone, slots are refilled at once, and memory that is short halves them."""

from itertools import product

import pytest
import torch

from penname.errors import ModelError
from penname.generate import slots
from penname.generate.decode import Decoded, Request, Rules, find_prefix
from penname.generate.nucleus import Sampling, draw_next
from penname.generate.slot_cache import SlotCache
from penname.generate.slots import SlotDecoder
from tests.conftest import make_tiny_llama

EOS, LIMIT = 2, 40


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    # Small tensors; what is tested does not depend on the number.
    monkeypatch.setattr(slots, "ROWS", 16)


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def model(request):
    model = make_tiny_llama(seed=4, tied=False)
    with torch.no_grad():
        model.lm_head.weight *= 25
    return model.to(request.param)


def make_requests(lengths=(4, 9, 1, 22, 9, 70, 2, 6, 9, 30), *, shared=37):
    generator = torch.Generator().manual_seed(3)
    beginning = torch.randint(3, 259, (shared,), generator=generator).tolist()
    prompts = [tuple(beginning + torch.randint(3, 259, (length,), generator=generator).tolist()) for length in lengths]
    # Two texts with one prompt.
    prompts[-1] = prompts[0]
    return [Request((1, i, 1), prompt) for i, prompt in enumerate(prompts)]


RULES = Rules(Sampling(1.0, 0.95, LIMIT), EOS, (0, 1), lambda ids: ids[-1] % 23 == 5)


def open_decoder(model, requests, *, num_slots=8, rules=RULES):
    decoder = SlotDecoder.open(model, rules, num_slots=num_slots, longest=max(len(request.prompt) for request in requests) + rules.sampling.max_new_tokens)
    assert decoder is not None
    return decoder


def write(model, requests, *, num_slots=8, rules=RULES, prefix=None):
    texts: dict[tuple[int, ...], Decoded] = {}
    decoder = open_decoder(model, requests, num_slots=num_slots, rules=rules)
    decoder.decode(
        requests, lambda request, text: texts.__setitem__(request.key, text), prefix=find_prefix([r.prompt for r in requests]) if prefix is None else prefix
    )
    return texts


def write_alone(model, request):
    """One text, one token at a time, without cache, padding or batch."""
    model.set_attn_implementation("eager")
    uniforms, token_ids = torch.from_numpy(request.draw_uniforms(LIMIT)), []
    for step in range(LIMIT):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*request.prompt, *token_ids]])).logits[:, -1].float()
        logits[:, [0, 1]] = -torch.inf
        reason = RULES.finish_reason(token_ids, int(draw_next(logits, uniforms[step : step + 1], RULES.sampling)[0]))
        if reason is not None:
            return Decoded(token_ids, reason)
    raise AssertionError


def test_every_text_is_the_one_that_it_would_be_alone():
    model = make_tiny_llama(seed=4, tied=False)
    with torch.no_grad():
        model.lm_head.weight *= 25
    requests = make_requests()
    texts = write(model, requests)
    assert texts == {request.key: write_alone(model, request) for request in requests}
    assert {text.finish_reason for text in texts.values()} == {"stop", "length"} or len({len(text.token_ids) for text in texts.values()}) > 3


def test_number_of_slots_order_neighbours_and_resuming_change_no_bit(model):
    requests = make_requests()
    prefix = find_prefix([request.prompt for request in requests])
    texts = write(model, requests, prefix=prefix)
    for num_slots, some in product([1, 3, 64], [requests, requests[::-1], requests[5:7]]):
        assert write(model, some, num_slots=num_slots, prefix=prefix) == {request.key: texts[request.key] for request in some}


def test_a_pass_is_no_wider_than_it_must_be_and_its_width_changes_no_bit(monkeypatch, model):
    monkeypatch.setattr(slots, "ROWS", 64)
    requests = make_requests()
    prefix = find_prefix([request.prompt for request in requests])
    written = []
    for widths in ([64], None):
        decoder, texts, passes = open_decoder(model, requests, num_slots=64), {}, []
        # Which they are is the processor's choice.
        assert decoder.widths[-1] == 64
        decoder.widths, compute = widths or decoder.widths, decoder._pass

        def watch(tokens, *given, compute=compute, passes=passes, **more):
            hidden = compute(tokens, *given, **more)
            passes.append((len(tokens), len(hidden)))
            return hidden

        decoder._pass = watch
        decoder.decode(requests, lambda request, text, texts=texts: texts.__setitem__(request.key, text), prefix=prefix)
        written.append(texts)
        assert all(width == min(w for w in decoder.widths if w >= count) for count, width in passes)
        assert len({width for _, width in passes}) > 1 or len(decoder.widths) == 1
    assert written[0] == written[1]


def test_a_width_at_which_the_model_computes_other_bits_is_not_used(monkeypatch, model):
    monkeypatch.setattr(slots, "ROWS", 64)
    others = [width for width in open_decoder(model, make_requests()).widths if width != 32]
    own = model.model.norm.forward
    # As where a processor multiplies few rows in another order: one bit of one number.
    monkeypatch.setattr(
        model.model.norm,
        "forward",
        lambda hidden: own(hidden) * (1 + 2**-7 * (torch.arange(hidden.shape[1]) == 3)[:, None] * (hidden.shape[1] == 32)).to(hidden.dtype),
    )
    assert open_decoder(model, make_requests()).widths == others


def test_a_redraw_in_its_slot_is_the_redraw_of_another_run(model):
    requests = make_requests()[:5]
    prefix = find_prefix([request.prompt for request in requests])
    again = [Request((1, i, 2), request.prompt) for i, request in enumerate(requests)]
    expected, drawn = write(model, again, prefix=prefix), {}

    def take(request, text):
        drawn[request.key] = text
        return again[request.key[1]] if request.key[2] == 1 else None

    open_decoder(model, requests, num_slots=2).decode(requests, take, prefix=prefix)
    assert {key: text for key, text in drawn.items() if key[2] == 2} == expected
    assert len(drawn) == 10


@pytest.mark.parametrize("num_slots", [1, 2, 5, 64])
def test_draws_ahead_change_no_text_and_are_shown_to_nobody_who_did_not_ask(model, num_slots):
    requests = make_requests()
    prefix = find_prefix([request.prompt for request in requests])

    def next_draw(request):
        seed, place, draw = request.key
        return Request((seed, place, draw + 1), request.prompt) if draw < 4 else None

    def write_all(ahead):
        drawn, steps = [], []
        decoder = open_decoder(model, requests, num_slots=num_slots)
        compute = decoder.compute_step
        decoder.compute_step = lambda *given: (steps.append(1), compute(*given))[1]

        def take(request, text):
            drawn.append((request.key, text))
            return next_draw(request) if request.key[2] <= request.key[1] % 5 else None

        decoder.decode(requests, take, prefix=prefix, next_draw=next_draw if ahead else None)
        assert len(drawn) == len(dict(drawn))
        # The draws of one record come in their order.
        for place in range(len(requests)):
            assert [key[2] for key, _ in drawn if key[1] == place] == list(range(1, min(place % 5, 3) + 2))
        return dict(drawn), len(steps)

    plain, num_steps = write_all(ahead=False)
    texts, num_steps_ahead = write_all(ahead=True)
    assert texts == plain
    assert num_steps_ahead < num_steps or num_slots < 64


def test_a_finished_text_leaves_at_once_and_the_next_enters():
    model, requests = make_tiny_llama(), make_requests((3,) * 12)
    decoder = open_decoder(model, requests, num_slots=4)
    sizes, compute = [], decoder.compute_step
    decoder.compute_step = lambda cache, newest: (sizes.append(len(newest)), compute(cache, newest))[1]
    finished = []
    decoder.decode(requests, lambda request, text: finished.append(len(text.token_ids)))
    assert len(finished) == 12
    # No step is spent on a text that is finished, and slots stand empty only while nothing waits.
    assert sum(sizes) - sum(finished) <= 12
    waiting = [size for size in sizes if size < 4]
    assert len(waiting) <= max(finished) + 1


def test_the_limit_and_suppressed_tokens(model):
    requests = make_requests()
    free = write(model, requests, rules=Rules(Sampling(1.0, 1.0, 5), EOS))
    assert all(len(text.token_ids) == 5 for text in free.values() if text.finish_reason == "length")
    banned = tuple(sorted({token for text in free.values() for token in text.token_ids})[::2])
    drawn = {token for text in write(model, requests, rules=Rules(Sampling(1.0, 1.0, 5), EOS, banned)).values() for token in text.token_ids}
    assert drawn
    assert not drawn & set(banned)


@pytest.mark.parametrize("error", [RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), MemoryError()])
def test_memory_that_is_short_halves_the_slots_and_changes_no_text(monkeypatch, capsys, error):
    model, requests = make_tiny_llama(), make_requests()
    texts = write(model, requests)
    whole = SlotCache.__init__

    def reserve(self, shapes, *, num_slots, **more):
        if num_slots > 2:
            raise error
        whole(self, shapes, num_slots=num_slots, **more)

    monkeypatch.setattr(SlotCache, "__init__", reserve)
    assert write(model, requests, num_slots=8) == texts
    assert "generate.batch_size: 8 texts at once do not fit into memory; going on with 4" in capsys.readouterr().err


def test_memory_for_not_even_one_text_is_one_line(monkeypatch):
    model, requests = make_tiny_llama(), make_requests()
    decoder = open_decoder(model, requests)

    def reserve(self, shapes, **more):
        raise MemoryError

    monkeypatch.setattr(SlotCache, "__init__", reserve)
    with pytest.raises(ModelError, match=r"generate\.max_new_tokens: not even one text"):
        decoder.decode(requests, lambda request, text: None)


def test_an_error_that_is_not_memory_is_not_hidden(monkeypatch):
    model, requests = make_tiny_llama(), make_requests()
    decoder = open_decoder(model, requests)

    def reserve(self, shapes, **more):
        raise RuntimeError("something else")

    monkeypatch.setattr(SlotCache, "__init__", reserve)
    with pytest.raises(RuntimeError, match="something else"):
        decoder.decode(requests, lambda request, text: None)


def test_a_model_that_attends_otherwise_is_refused_and_left_as_it_was():
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"vocab_size": 259, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(**sizes, sliding_window=16)).eval()
    before = model.config._attn_implementation
    assert SlotDecoder.open(model, RULES, num_slots=4, longest=60) is None
    assert model.config._attn_implementation == before
    assert SlotDecoder.open(model, RULES, num_slots=4, longest=16) is not None


def test_weights_in_bfloat16_are_packed_and_those_in_float32_are_not():
    for dtype, packs in ((torch.bfloat16, True), (torch.float32, False)):
        model = make_tiny_llama(tied=False).to(dtype)
        assert SlotDecoder.open(model, RULES, num_slots=4, longest=60) is not None
        assert (type(model.lm_head).__name__ == "PackedLinear") == packs


class Watched:
    """A decoder's logits before every draw, by the uniform number that is used for it: that belongs to one place in one text."""

    def __init__(self, monkeypatch):
        self.rows = {}

        def watch(logits, uniforms, sampling):
            for row, uniform in zip(logits, uniforms.tolist(), strict=True):
                # An empty slot has none.
                if uniform:
                    self.rows[uniform] = hash(row.float().numpy().tobytes())
            return draw_next(logits, uniforms, sampling)

        monkeypatch.setattr(slots, "draw_next", watch)

    def write(self, decoder, requests, prefix):
        self.rows = {}
        texts = {}
        decoder.decode(requests, lambda request, text: texts.__setitem__(request.key, text), prefix=prefix)
        assert len(self.rows) >= sum(len(text.token_ids) for text in texts.values())
        return texts, self.rows


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_default_model_computes_the_same_bits_in_any_number_of_slots(monkeypatch, two_threads, dtype):
    from penname.config import ModelConfig
    from penname.model.base import load_base_model

    monkeypatch.setattr(slots, "ROWS", 128)
    model, tokenizer = load_base_model(ModelConfig(dtype=dtype))
    prompts = [tuple(tokenizer(f"Category: Hats\nRating: {i % 5 + 1} out of 5\nTitle:{' A' * (i % 4)}")["input_ids"]) for i in range(10)]
    requests = [Request((1, i, 1), prompt) for i, prompt in enumerate(prompts)]
    rules, prefix = Rules(Sampling(0.8, 0.9, 6), tokenizer.eos_token_id), find_prefix(prompts)
    decoder, watched = open_decoder(model, requests, num_slots=64, rules=rules), Watched(monkeypatch)
    texts, rows = watched.write(decoder, requests, prefix)
    assert len({tuple(text.token_ids) for text in texts.values()}) > 5
    for num_slots, some in ((8, requests[::-1]), (1, requests[3:5])):
        decoder.num_slots = num_slots
        some_texts, some_rows = watched.write(decoder, some, prefix)
        assert some_texts == {request.key: texts[request.key] for request in some}
        assert some_rows.items() <= rows.items()
