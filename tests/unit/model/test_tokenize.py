"""Records as tokens."""

import pytest

from penname.model.packing import PackedRows
from penname.model.tokenize import TokenizedRecord, encode_prompt, encode_record


def test_prompt_completion_and_end(byte_tokenizer):
    record = encode_record(byte_tokenizer, "ab", "cde", max_tokens=20)
    assert record.num_prompt_tokens == 2
    assert record.num_completion_tokens == 4
    assert byte_tokenizer.decode(record.token_ids[:-1]) == "abcde"
    assert record.token_ids[-1] == byte_tokenizer.eos_token_id


def test_a_record_that_just_fits_ends_and_one_token_more_is_cut(byte_tokenizer):
    assert encode_record(byte_tokenizer, "ab", "cde", max_tokens=6).token_ids[-1] == byte_tokenizer.eos_token_id
    cut = encode_record(byte_tokenizer, "ab", "cde", max_tokens=5)
    assert byte_tokenizer.decode(cut.token_ids) == "abcde"
    assert byte_tokenizer.eos_token_id not in cut.token_ids


@pytest.mark.parametrize("max_tokens", [1, 3])
def test_a_prompt_without_room_for_a_completion(byte_tokenizer, max_tokens):
    assert encode_record(byte_tokenizer, "abc", "d", max_tokens=max_tokens) is None
    assert encode_record(byte_tokenizer, "abc", "d", max_tokens=4).num_completion_tokens == 1


def test_a_record_begins_as_its_prompt_does(byte_tokenizer):
    prompt = "Rätsel 🙂\n"
    prompt_ids = encode_prompt(byte_tokenizer, prompt)
    assert encode_record(byte_tokenizer, prompt, "x", max_tokens=99).token_ids[: len(prompt_ids)] == prompt_ids


def test_an_empty_completion_teaches_to_stop(byte_tokenizer):
    record = encode_record(byte_tokenizer, "ab", "", max_tokens=20)
    assert (record.token_ids[2:], record.num_completion_tokens) == ([byte_tokenizer.eos_token_id], 1)


def test_the_first_token_of_all_is_given_and_never_learned(byte_tokenizer):
    """Nothing stands before it, and where records lie end to end what does is another's."""
    record = encode_record(byte_tokenizer, "", "abc", max_tokens=20)
    assert (record.num_prompt_tokens, record.num_completion_tokens) == (1, 3)
    rows = PackedRows.pack([TokenizedRecord([7, 8], 1), record], num_tokens=8, pad_id=0)
    assert rows.predicting()[0].tolist() == [0, 2, 3, 4]


def test_a_record_of_one_token_has_nothing_to_learn(byte_tokenizer):
    assert encode_record(byte_tokenizer, "", "", max_tokens=20) is None
    assert encode_record(byte_tokenizer, "", "abc", max_tokens=1) is None
