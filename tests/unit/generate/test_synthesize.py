"""Writing the records: what does not parse is drawn again, and a killed run goes on with what it had."""

from dataclasses import dataclass, field

import pytest

from penname.config import GenerateConfig, RecordsConfig
from penname.errors import PennameError
from penname.generate import synthesize
from penname.generate.conditioning import Condition
from penname.generate.decode import Decoded
from penname.generate.synthesize import PartialFile, RecordWriter
from penname.progress import show_progress
from penname.schemas import SyntheticRecord
from penname.template import RecordTemplate


def make_row(number, text="text"):
    return SyntheticRecord(f"synthetic-{number:06d}", "with_dp", 5, "Cases", "Case X", "Tïtle", text, "stop", 1)


@pytest.fixture
def partial(tmp_path):
    return PartialFile(tmp_path / ".rows.partial", "key-1")


def test_a_new_file_is_empty_and_rows_come_back(partial):
    assert partial.read() == {}
    rows = [make_row(0), make_row(1, "two\nlines \u2028 and more")]
    partial.append(rows[:1])
    partial.append(rows[1:])
    assert list(partial.read().values()) == rows


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_a_line_that_was_cut_is_drawn_again(partial, cut):
    partial.read()
    partial.append([make_row(0), make_row(1)])
    partial.path.write_bytes(partial.path.read_bytes()[:-cut])
    assert list(partial.read().values()) == [make_row(0)]
    partial.append([make_row(1)])
    assert list(partial.read().values()) == [make_row(0), make_row(1)]


@pytest.mark.parametrize("left", [b"", b'{"key": "ke', b'{"key": "key-2"}\n{"a": 1}\n'])
def test_a_file_of_other_settings_or_cut_in_its_first_line_counts_for_nothing(partial, left):
    partial.path.write_bytes(left)
    assert partial.read() == {}
    partial.append([make_row(0)])
    assert list(partial.read().values()) == [make_row(0)]


# --- drawing until it parses ------------------------------------------------------------------------------------------


@dataclass
class Tokenizer:
    eos_token_id: int = 0
    all_special_ids: list = field(default_factory=lambda: [0, 1])

    def __call__(self, text):
        return {"input_ids": [2] * len(text)}

    def decode(self, token_ids):
        return "".join({7: " title\nReview: body", 8: "no form at all", 9: "##"}[token] for token in token_ids[-1:])


TEMPLATE = RecordTemplate.from_config(RecordsConfig(completion_template=" {title}\nReview: {text}##"), has_products=True)
CONDITIONS = [Condition(f"synthetic-{i:06d}", 1 + i % 5, "Cases", "Case" + "!" * (20 - i)) for i in range(10)]


class Decoder:
    """Stands for the model: text i parses from the draw on that `needed` says."""

    def __init__(self, needed):
        self.needed, self.calls, self.seen = needed, 0, []

    def __call__(self, _model, prompts, uniforms, sampling, *, eos_id, pad_id, suppressed_ids, is_ended):
        assert suppressed_ids == [1]
        assert is_ended([7, 9])
        assert not is_ended([9, 7])
        assert uniforms.shape == (len(prompts), sampling.max_new_tokens)
        self.calls += 1
        self.seen.extend((len(prompt), float(row[0])) for prompt, row in zip(prompts, uniforms, strict=True))
        lengths = [length for length, _ in self.seen]
        return [Decoded([7 if lengths.count(len(prompt)) >= self.needed(len(prompt)) else 8], "stop") for prompt in prompts]


def write(monkeypatch, decoder, *, done=None, **config):
    monkeypatch.setattr(synthesize, "decode_batch", decoder)
    writer = RecordWriter(None, Tokenizer(), TEMPLATE, GenerateConfig(max_draws_per_record=4, max_new_tokens=8, **config), "with_dp")
    saved, rows = [], dict(done or {})
    with show_progress("generate") as progress:
        writer.write_all(CONDITIONS, rows, saved.extend, progress)
    return rows, saved


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_what_does_not_parse_is_counted_and_redrawn(monkeypatch, batch_size):
    rows, saved = write(monkeypatch, Decoder(lambda length: 1 + length % 3), batch_size=batch_size)
    assert sorted(rows) == [condition.record_id for condition in CONDITIONS]
    assert sorted(row.record_id for row in saved) == sorted(rows)
    for condition in CONDITIONS:
        row = rows[condition.record_id]
        prompt = TEMPLATE.fill_prompt(rating=condition.rating, category=condition.category, product_title=condition.product_title)
        assert row.num_draws == 1 + len(prompt) % 3
        assert (row.rating, row.category, row.product_title) == (condition.rating, condition.category, condition.product_title)
        assert (row.title, row.text) == ("title", "body")


def test_random_numbers_belong_to_the_record_and_the_draw_not_to_the_batch(monkeypatch):
    whole, cut = Decoder(lambda length: 2), Decoder(lambda length: 2)
    write(monkeypatch, whole, batch_size=64)
    write(monkeypatch, cut, batch_size=3)
    assert sorted(whole.seen) == sorted(cut.seen)
    assert len({number for _, number in whole.seen}) == 2 * len(CONDITIONS)


def test_finished_records_are_not_drawn_again(monkeypatch):
    first, _ = write(monkeypatch, Decoder(lambda length: 1))
    done = {name: row for name, row in first.items() if name < "synthetic-000004"}
    decoder = Decoder(lambda length: 1)
    rows, saved = write(monkeypatch, decoder, done=done)
    assert rows == first
    assert len(saved) == len(decoder.seen) == 6
    idle = Decoder(lambda length: 1)
    write(monkeypatch, idle, done=first)
    assert idle.calls == 0


def test_a_model_that_never_parses_stops_with_one_line(monkeypatch):
    decoder = Decoder(lambda length: 99)
    with pytest.raises(PennameError, match=r"10 of 10 records of the arm with_dp did not parse after 4 draws each") as caught:
        write(monkeypatch, decoder)
    assert "\n" not in str(caught.value)
    assert len(decoder.seen) == 40
