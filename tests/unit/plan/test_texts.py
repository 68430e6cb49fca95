import pytest

from penname.config import Config
from penname.errors import DataError, UsageError
from penname.plan.texts import assume_texts, sample_texts

COLUMNS = {"rating": "stars", "title": "title", "text": "text", "category": "kind", "user_id": "who"}


def make_config(tmp_path, rows: list[str], **records) -> Config:
    path = tmp_path / "r.csv"
    path.write_text("\n".join(["stars,title,text,kind,who", *rows]) + "\n", encoding="utf-8")
    data = {"format": "table", "reviews": str(path), "columns": COLUMNS, "categories": ["Hats", "Coats"]}
    return Config.model_validate({"data": data, "records": {"prompt_template": "{category} {rating}:", "completion_template": "{title}|{text}", **records}})


def test_lengths_are_those_of_the_records_and_their_tokens_are_not(tmp_path, byte_tokenizer):
    config = make_config(tmp_path, ["5,Secret,Words and words,Hats,a", "1,,no title,Hats,b", "2,Plain,Four,Coats,c"])
    texts = sample_texts(config, byte_tokenizer, num_units=70)
    completions = sorted(record.num_completion_tokens for unit in texts.units for record in unit)
    # One token a byte, and the end-of-text token.
    assert completions == [len("Plain|Four") + 1, len("Secret|Words and words") + 1]
    assert texts.is_private
    assert texts.num_units == 70
    made = {tuple(record.token_ids[record.num_prompt_tokens :]) for unit in texts.units for record in unit}
    assert tuple(byte_tokenizer("Plain|Four")["input_ids"]) not in {ids[:-1] for ids in made}


def test_prompts_are_public(tmp_path, byte_tokenizer):
    config = make_config(tmp_path, ["5,Secret,Words,Hats,a"])
    asked = {byte_tokenizer.decode(prompt) for prompt in sample_texts(config, byte_tokenizer, num_units=9).prompts}
    assert asked == {f"{kind} {rating}:" for kind in ("Hats", "Coats") for rating in range(1, 6)}


def test_a_unit_has_no_more_records_than_its_bound(tmp_path, byte_tokenizer):
    rows = [f"5,T{i},text {i},Hats,{'ab'[i % 2]}" for i in range(10)]
    texts = sample_texts(make_config(tmp_path, rows, max_records_per_user=3), byte_tokenizer, num_units=9)
    assert [len(unit) for unit in texts.units] == [3, 3]


def test_records_are_cut_where_training_cuts_them(tmp_path, byte_tokenizer):
    config = make_config(tmp_path, [f"5,T,{'long ' * 400},Hats,a"])
    ((record,),) = sample_texts(config, byte_tokenizer, num_units=9).units
    assert len(record.token_ids) == config.train.max_record_tokens


def test_with_a_given_length_no_row_is_read(tmp_path, byte_tokenizer):
    config = make_config(tmp_path, [])
    (tmp_path / "r.csv").unlink()
    texts = assume_texts(config, byte_tokenizer, num_units=9, record_tokens=50)
    assert [[len(record.token_ids) for record in unit] for unit in texts.units] == [[50, 50]]
    assert not texts.is_private
    at_most = assume_texts(config, byte_tokenizer, num_units=9, record_tokens=None)
    assert [[len(record.token_ids) for record in unit] for unit in at_most.units] == [[config.train.max_record_tokens] * 2]
    with pytest.raises(UsageError, match="--record-tokens: the prompt alone has 8 tokens"):
        assume_texts(config, byte_tokenizer, num_units=9, record_tokens=8)


def test_data_that_says_nothing_is_told_what_to_do(tmp_path, byte_tokenizer):
    with pytest.raises(UsageError, match="no row with a title and a text; say with --record-tokens"):
        sample_texts(make_config(tmp_path, ["5,,nothing,Hats,a"]), byte_tokenizer, num_units=9)
    config = make_config(tmp_path, [])
    (tmp_path / "r.csv").unlink()
    with pytest.raises(DataError, match=r"r\.csv"):
        sample_texts(config, byte_tokenizer, num_units=9)
