"""Writing the records: what does not parse is drawn again, and a killed run goes on with what it had."""

from dataclasses import dataclass, field

import pytest

from penname.config import Config, GenerateConfig, RecordsConfig
from penname.errors import PennameError
from penname.generate.conditioning import Condition
from penname.generate.decode import Decoded, Request, find_prefix
from penname.generate.synthesize import PartialFile, RecordWriter, count_base_records
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
        return "".join({7: " title\nReview: body", 8: "no form at all", 9: "##", 10: " title\nReview: so so so so so"}[token] for token in token_ids[-1:])


TEMPLATE = RecordTemplate.from_config(RecordsConfig(completion_template=" {title}\nReview: {text}##"), has_products=True)
CONDITIONS = [Condition(f"synthetic-{i:06d}", 1 + i % 5, "Cases", "Case" + "!" * (20 - i)) for i in range(10)]


class Decoder:
    """Stands for the model: the text of a prompt of this length parses from the draw on that `needed` says."""

    def __init__(self, needed):
        self.needed, self.seen, self.prefixes = needed, [], []

    def decode(self, requests, on_text, *, prefix=(), next_draw=None):
        self.prefixes.append(list(prefix))
        waiting = list(requests)
        while waiting:
            request = waiting.pop(0)
            self.seen.append(request)
            again = on_text(request, Decoded([7 if request.key[2] >= self.needed(len(request.prompt)) else 8], "stop"))
            if again is not None:
                waiting.append(again)


def make_writer(arm="with_dp", **settings):
    return RecordWriter(Tokenizer(), TEMPLATE, GenerateConfig(max_draws_per_record=4, max_new_tokens=8, seed=6, **settings), arm)


def write(decoder, *, done=None):
    saved, rows = [], dict(done or {})
    with show_progress("generate") as progress:
        make_writer().write_all(decoder, CONDITIONS, find_prompts(), rows, saved.extend, progress)
    return rows, saved


def find_prompts():
    return make_writer().encode_all(CONDITIONS, [])


def test_the_rules_of_a_text():
    rules = make_writer().rules
    assert (rules.eos_id, rules.suppressed_ids, rules.end, rules.sampling.max_new_tokens) == (0, (1,), "##", 8)
    assert rules.is_ended([7, 9])
    assert not rules.is_ended([9, 7])


def test_what_does_not_parse_is_counted_and_redrawn():
    rows, saved = write(Decoder(lambda length: 1 + length % 3))
    assert sorted(rows) == [condition.record_id for condition in CONDITIONS]
    assert sorted(row.record_id for row in saved) == sorted(rows)
    for condition in CONDITIONS:
        row = rows[condition.record_id]
        prompt = TEMPLATE.fill_prompt(rating=condition.rating, category=condition.category, product_title=condition.product_title)
        assert row.num_draws == 1 + len(prompt) % 3
        assert (row.rating, row.category, row.product_title) == (condition.rating, condition.category, condition.product_title)
        assert (row.title, row.text) == ("title", "body")


class ByDraw(Decoder):
    """Says of every draw what it gives: token and finish reason."""

    def __init__(self, *draws):
        super().__init__(None)
        self.draws = draws

    def decode(self, requests, on_text, *, prefix=(), next_draw=None):
        waiting = list(requests)
        while waiting:
            request = waiting.pop(0)
            token, reason = self.draws[request.key[2] - 1]
            if again := on_text(request, Decoded([token], reason)):
                waiting.append(again)


BROKEN, FORMLESS, CUT, WHOLE = (10, "stop"), (8, "stop"), (7, "length"), (7, "stop")


@pytest.mark.parametrize(
    ("draws", "faults", "num_draws", "text", "finish_reason"),
    [
        ((BROKEN, CUT, WHOLE), ["repetition", "cut"], 3, "body", "stop"),
        ((BROKEN, CUT, WHOLE), ["cut"], 1, "so so so so so", "stop"),
        ((BROKEN, CUT, WHOLE), ["repetition"], 2, "body", "length"),
        ((FORMLESS, CUT, WHOLE), [], 2, "body", "length"),
        # Where none of three is whole, the first that parsed.
        ((FORMLESS, CUT, BROKEN, WHOLE), ["repetition", "cut"], 3, "body", "length"),
        ((BROKEN, BROKEN, CUT, WHOLE), ["repetition", "cut"], 3, "so so so so so", "stop"),
        ((BROKEN, FORMLESS, FORMLESS, WHOLE), ["repetition", "cut"], 3, "so so so so so", "stop"),
        ((FORMLESS, FORMLESS, FORMLESS, CUT), ["cut"], 4, "body", "length"),
    ],
)
def test_a_broken_text_is_drawn_again_and_kept_where_none_is_whole(draws, faults, num_draws, text, finish_reason):
    rows, saved = {}, []
    writer = make_writer(redraw_faults=faults)
    with show_progress("generate") as progress:
        writer.write_all(ByDraw(*draws), CONDITIONS, find_prompts(), rows, saved.extend, progress)
    assert len(saved) == len(rows) == len(CONDITIONS)
    assert {(row.num_draws, row.text, row.finish_reason) for row in rows.values()} == {(num_draws, text, finish_reason)}


def test_what_the_untrained_model_writes_is_kept_however_broken():
    rows = {}
    with show_progress("generate") as progress:
        make_writer("base").write_all(ByDraw(BROKEN), CONDITIONS, find_prompts(), rows, lambda _: None, progress)
    assert {row.num_draws for row in rows.values()} == {1}


def test_what_the_untrained_model_writes_is_drawn_once_and_kept_as_it_is():
    rows, decoder = {}, Decoder(lambda length: 1 + length % 2)
    with show_progress("generate") as progress:
        make_writer("base").write_all(decoder, CONDITIONS, find_prompts(), rows, lambda _: None, progress)
    assert {(row.arm, row.num_draws) for row in rows.values()} == {("base", 1)}
    assert {(row.title, row.text) for row in rows.values()} == {("title", "body"), ("", "no form at all")}
    assert len(decoder.seen) == len(CONDITIONS)


@pytest.mark.parametrize(
    ("wanted", "data", "expected"), [(None, "sample", 64), (None, "table", 0), (7, "table", 7), (0, "sample", 0), (500, "sample", 100), (None, "small", 20)]
)
def test_how_many_texts_the_untrained_model_writes(wanted, data, expected):
    config = Config.model_validate({"generate": {"num_records": 20 if data == "small" else 100, "num_base_records": wanted}})
    if data == "table":
        config = config.model_copy(update={"data": config.data.model_copy(update={"format": "table"})})
    assert count_base_records(config) == expected


def test_a_request_is_the_record_and_the_draw():
    decoder = Decoder(lambda length: 2)
    write(decoder)
    assert sorted(request.key for request in decoder.seen) == [(6, place, draw) for place in range(10) for draw in (1, 2)]
    assert len({request.prompt for request in decoder.seen}) == 10
    assert all(isinstance(request, Request) for request in decoder.seen)


def test_finished_records_are_not_drawn_again_and_the_rest_is_drawn_as_before():
    whole = Decoder(lambda length: 1)
    first, _ = write(whole)
    done = {name: row for name, row in first.items() if name < "synthetic-000004"}
    decoder = Decoder(lambda length: 1)
    rows, saved = write(decoder, done=done)
    assert rows == first
    assert len(saved) == len(decoder.seen) == 6
    assert set(decoder.seen) < set(whole.seen)
    # What is computed once for all prompts is that of the whole run.
    assert decoder.prefixes == whole.prefixes == [find_prefix([make_writer().encode(condition) for condition in CONDITIONS])]
    idle = Decoder(lambda length: 1)
    write(idle, done=first)
    assert idle.seen == []


def test_a_finished_record_is_saved_at_once():
    saved = []

    class Stopped(Decoder):
        def decode(self, requests, on_text, *, prefix=(), next_draw=None):
            super().decode(requests[:3], on_text)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), show_progress("generate") as progress:
        make_writer().write_all(Stopped(lambda length: 1), CONDITIONS, find_prompts(), {}, saved.extend, progress)
    assert len(saved) == 3


def test_a_model_that_never_parses_stops_with_one_line():
    decoder = Decoder(lambda length: 99)
    with pytest.raises(PennameError, match=r"10 of 10 records of the arm with_dp did not parse after 4 draws each") as caught:
        write(decoder)
    assert "\n" not in str(caught.value)
    assert len(decoder.seen) == 40
