"""Several prompts write one text: each says the same beside any others, and all are given the token that is drawn."""

import copy

import pytest
import torch

from penname.errors import ModelError
from penname.generate import joint_decoding, slots
from penname.generate.decode import Rules
from penname.generate.joint_decoding import JointDecoder, JointText
from penname.generate.nucleus import Sampling
from penname.generate.slots import SlotDecoder
from tests.conftest import make_tiny_llama

EOS, LIMIT = 2, 12
PREFIX = tuple(range(3, 20))
RULES = Rules(Sampling(1.0, 1.0, LIMIT), EOS, (0, 1), lambda ids: ids[-1] % 29 == 5)


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    for module in (slots, joint_decoding):
        monkeypatch.setattr(module, "ROWS", 16)


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def model(request):
    model = make_tiny_llama(seed=4, tied=False)
    with torch.no_grad():
        model.lm_head.weight *= 25
    return model.to(request.param)


def make_text(place, *lengths):
    generator = torch.Generator().manual_seed(place)
    prompts = [(*PREFIX, *torch.randint(20, 259, (length,), generator=generator).tolist()) for length in lengths]
    return JointText(place, prompts[0], tuple(prompts[1:]))


TEXTS = [make_text(0, 5, 9, 30), make_text(1, 3), make_text(2, 8, 2, 2, 41, 7), make_text(3, 5, 6)]


def write(model, texts, *, longest=41):
    """The texts, and what every prompt said before each token."""
    decoder = SlotDecoder.open(model, RULES, num_slots=16, longest=len(PREFIX) + longest + LIMIT)
    assert decoder is not None
    said, found = {}, {}

    def draw(place, number, first, others):
        said[place, number] = torch.cat([first[None], others])
        return int(said[place, number].float().mean(0)[3:].argmax()) + 3

    JointDecoder(decoder, PREFIX).decode(texts, draw, lambda text, decoded: found.__setitem__(text.place, decoded))
    return found, said


def test_what_a_prompt_says_is_the_same_bits_beside_any_others(model):
    together, said = write(model, TEXTS)
    assert set(together) == {0, 1, 2, 3}
    for text in TEXTS:
        alone, apart = write(model, [text])
        assert alone[text.place] == together[text.place]
        for (_, number), rows in apart.items():
            assert torch.equal(said[text.place, number], rows)


def test_every_prompt_is_given_the_tokens_that_are_drawn(model):
    # The decoder exchanges the attention of the model that it is given.
    found, said = write(copy.deepcopy(model), TEXTS)
    text = TEXTS[2]
    ids = found[2].token_ids
    assert found[2].finish_reason in ("stop", "length")
    assert len(ids) <= LIMIT
    for row, prompt in enumerate(text.prompts):
        expected = model(input_ids=torch.tensor([[*prompt, *ids[:-1]]]), use_cache=False).logits[0, len(prompt) - 1 :].float()
        for number in range(len(ids)):
            got, wanted = said[2, number][row].float(), expected[number]
            error = ((got - got.mean()) - (wanted - wanted.mean())).norm() / wanted.norm()
            assert error < (0.1 if model.dtype == torch.bfloat16 else 1e-3)


def test_more_prompts_than_a_pass_has_rows(model):
    many = make_text(7, *[3 + i % 5 for i in range(40)])
    found, said = write(model, [many, TEXTS[1]])
    assert set(found) == {7, 1}
    assert said[7, 0].shape[0] == 40
    assert torch.equal(said[7, 0][:1], write(model, [JointText(7, many.first, ())])[1][7, 0])


def test_no_texts_are_no_work(model):
    assert write(model, []) == ({}, {})


def test_a_prompt_that_is_too_long_is_refused(model):
    with pytest.raises(ModelError, match="longer than the prompts"):
        write(model, TEXTS, longest=20)


def test_a_prompt_that_begins_otherwise_is_refused(model):
    text = TEXTS[0]
    with pytest.raises(ModelError, match="does not begin"):
        write(model, [JointText(0, text.first, ((9, *text.first[1:]),))])


def test_what_prompts_say_of_given_tokens_is_what_they_say_while_they_write(model):
    decoder = SlotDecoder.open(model, RULES, num_slots=16, longest=len(PREFIX) + 41 + LIMIT)
    joint, text = JointDecoder(decoder, PREFIX), TEXTS[2]
    together = joint.score(text.prompts, (30, 31, 32))
    assert together.shape[:2] == (5, 3)
    for row, prompt in enumerate(text.prompts):
        assert torch.equal(joint.score([prompt], (30, 31, 32))[0], together[row])
