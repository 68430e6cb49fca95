"""A line is read alone: what becomes of it depends neither on its neighbours nor on which way they made the block go."""

import json
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penname.ingest import json_lines
from penname.ingest.input_file import Block
from penname.ingest.json_lines import JsonBlock, count_object_lines
from penname.ingest.raw_batch import MISSING

COLUMNS = {"text": "text", "rating": "stars", "user_id": "who", "unit_id": "who"}
PLAIN = b'{"text": "good", "stars": 5, "who": "ann", "more": {"deep": [1, "x"]}}'
LINES = [
    PLAIN,
    b'{"text": "caf\xc3\xa9", "stars": "4"}',
    b'{"text": "a", "more": "\xff"}',
    b'{"text": "\xff"}',
    b'{"text": "\\ud83d\\ude00", "st\\u0061rs": 3}',
    b'{"text": "\\ud83d"}',
    b'{"text": "a", "text": "b"}',
    b'{"text": NaN}',
    b'{"more": NaN, "text": "a"}',
    b'{"text": 123456789012345678901234567890}',
    b'{"text": null}',
    b"{}",
    b'{"text": "a"} x',
    b'\xef\xbb\xbf{"text": "marked"}',
    b'{"text": "a", "more": ' + b"[" * 3000 + b"]" * 3000 + b"}",
    b'{"text": "a", "more": "a\x00b"}',
    b"[1]",
    b"null",
    b" ",
    b"",
    b'{"text": "a"}\r',
]


def read(*lines, first=7, columns=COLUMNS):
    return list(JsonBlock(columns, Block(first, b"\n".join(lines) + b"\n", "utf-8")).parse().rows())


@pytest.mark.parametrize("mates", [(), (PLAIN,), (b'{"text": "\xff"}',), (b"no json",)], ids=["alone", "plain", "undecodable", "malformed"])
@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_neighbours_do_not_decide_what_a_line_is(line, mates):
    alone, together = read(line), read(line, *mates)
    assert together[: len(alone)] == alone
    assert len(together) == len(alone) + len(mates)
    assert read(*mates, line, first=7 - len(mates))[len(mates) :] == alone


def test_what_a_line_is():
    (row,) = read(PLAIN)
    assert (row.line, row.values) == (7, {"text": "good", "rating": 5, "user_id": "ann", "unit_id": "ann"})
    assert [found.reason for line in LINES for found in read(line) if hasattr(found, "reason")] == [
        "undecodable_bytes", "undecodable_bytes", "malformed_json", "malformed_json", "malformed_json", "nul_byte", "not_an_object", "not_an_object",
    ]  # fmt: skip
    assert read(LINES[4])[0].values == {"text": "\N{GRINNING FACE}", "rating": 3}
    assert read(LINES[6])[0].values == {"text": "b"}
    assert read(LINES[9])[0].values == {"text": 123456789012345678901234567890}


def test_a_column_may_have_any_name():
    name = 'a "quoted"\n\\name'
    (row,) = read(b'{"a \\"quoted\\"\\n\\\\name": 1, "b": 2}', columns={"text": name, "title": "b", "category": "c"})
    assert row.values == {"text": 1, "title": 2}
    batch = JsonBlock({"text": name, "category": "c"}, Block(1, b"{}\n", "utf-8")).parse()
    assert batch.columns == {"text": [MISSING], "category": [MISSING]}


def test_a_block_in_another_encoding():
    block = Block(1, '{"text": "naïve"}\n{"text": "plain"}'.encode("latin-1"), "iso8859-1")
    assert [row.values["text"] for row in JsonBlock({"text": "text"}, block).parse().rows()] == ["naïve", "plain"]


PIECES = [
    b"{", b"}", b"{}", b"\n", b"\r\n", b"\r", b" ", b",", b":", b'"', b'"text"', b'"stars"', b"[", b"]", b"1", b"null", b'{"text": "a"}', b'{"stars": 5}',
    b'{"text": "a"}\n{"stars": 5}\n', b"}\n{", b"\\", b"\xff", b"\x00", b"\xef\xbb\xbf", b'{"text": "a", "text": 2}', b"{}{}",
    b'{"text": [{}', b'"\\ud800"', b"NaN", b"\xf0\x9f\x98\x80",
]  # fmt: skip


@settings(max_examples=600, deadline=None, derandomize=True)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=14))
def test_a_block_is_read_as_each_of_its_lines_is(pieces):
    """Also where the pieces of one line make sense only together with the next."""
    block = JsonBlock(COLUMNS, Block(7, b"".join(pieces), "utf-8"))
    found = list(block.parse().rows())
    with mock.patch.object(json_lines, "count_object_lines", return_value=0):
        assert found == list(block.parse().rows())


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("has_last_end", [True, False])
def test_lines_of_objects_are_counted(end, has_last_end):
    lines = [json.dumps({"text": text}).encode() for text in ("a", "}\n{", "\N{GRINNING FACE}")]
    data = end.join(lines) + (end if has_last_end else b"")
    assert count_object_lines(data) == 3
    assert [row.values for row in read(*lines)] == [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"\r\n", b"\n\r", b"{}\n\n{}", b"\n{}", b"{}\n\r\n", b' {}\n{}', b'{"a":\n{}}', b"{} \n{}", b"{}\n1", b"[{}\n{}]"]
)  # fmt: skip
def test_other_lines_are_not(data):
    assert count_object_lines(data) == 0
