import csv
import io

import pytest

from penname.errors import DataError, UsageError
from penname.ingest import csv_rows, input_file, json_lines
from penname.ingest.raw_batch import Row
from penname.ingest.rejects import Reject
from penname.ingest.table import Table
from penname.ingest.tabular import check_table, read_table

COLUMNS = {"rating": "r", "text": "t"}


def _read(path, **options):
    table = Table(path, options.pop("columns", COLUMNS), **options)
    check_table(table)
    moved = []
    rows = list(read_table(table, advance=moved.append))
    assert sum(moved) == pytest.approx(path.stat().st_size, rel=0.01)
    return rows


def _write(path, data):
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_a_csv_row_is_numbered_by_its_first_line(tmp_path):
    path = _write(tmp_path / "a.csv", 'r,t\r\n5,"one\r\ntwo, with ""quotes"""\r\n\r\n4,plain\r\n3,last without newline')
    assert _read(path) == [
        Row(2, {"rating": "5", "text": 'one\r\ntwo, with "quotes"'}),
        Row(5, {"rating": "4", "text": "plain"}),
        Row(6, {"rating": "3", "text": "last without newline"}),
    ]


def test_a_wrong_number_of_fields(tmp_path):
    rows = _read(_write(tmp_path / "a.csv", "r,t\n5,a,b\n4\n3,c\n"))
    assert rows == [
        Reject(2, "wrong_num_fields", "3 fields, the header has 2"),
        Reject(3, "wrong_num_fields", "1 fields, the header has 2"),
        Row(4, {"rating": "3", "text": "c"}),
    ]


def test_an_open_quote_counts_every_line_it_swallows(tmp_path):
    body = 'r,t\n5,fine\n4,"never closed\n' + "".join(f"3,row {i}\n" for i in range(30))
    rows = _read(_write(tmp_path / "a.csv", body))
    assert rows[0] == Row(2, {"rating": "5", "text": "fine"})
    assert rows[1:] == [Reject(3, "unclosed_quote", "the quote is still open at the end of the file", 31)]


def test_a_quote_closed_by_a_later_row_counts_the_lines_between(tmp_path):
    body = 'r,t\n4,"never closed\n' + "".join(f"3,row {i}\n" for i in range(30)) + '5,"quoted"\n2,after\n'
    rows = _read(_write(tmp_path / "a.csv", body))
    assert rows[0].reason == "unclosed_quote"
    assert rows[0].num_rows == 32
    assert rows[1:] == [Row(34, {"rating": "2", "text": "after"})]


def test_the_last_csv_row_cut_inside_a_quote(tmp_path):
    rows = _read(_write(tmp_path / "a.csv", 'r,t\n5,fine\n4,"cut he'))
    assert [type(row) for row in rows] == [Row, Reject]
    assert (rows[1].line, rows[1].reason, rows[1].num_rows) == (3, "unclosed_quote", 1)


def test_a_field_above_the_limit_of_the_csv_module_is_read_and_the_limit_is_put_back(tmp_path):
    before = csv.field_size_limit()
    rows = _read(_write(tmp_path / "a.csv", f"r,t\n5,{'x' * (before + 10)}\n"))
    assert len(rows[0].values["text"]) == before + 10
    assert csv.field_size_limit() == before


def test_a_very_long_line_is_rejected_and_reading_goes_on(tmp_path, monkeypatch):
    for module in (input_file, json_lines):
        monkeypatch.setattr(module, "MAX_LINE_BYTES", 1000)
    path = _write(tmp_path / "a.csv", f"r,t\n5,{'x' * 5000}\n4,next\n")
    assert _read(path) == [Reject(2, "line_too_long"), Row(3, {"rating": "4", "text": "next"})]
    path = _write(tmp_path / "a.jsonl", '{"r":5,"t":"a"}\n{"r":5,"t":"' + "x" * 5000 + '"}\n{"r":4,"t":"b"}\n')
    assert [row.line for row in _read(path) if isinstance(row, Reject)] == [2]


def test_a_field_that_grows_over_many_lines_is_an_open_quote(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_rows, "MAX_LINE_BYTES", 200)
    body = 'r,t\n4,"never closed\n' + "".join(f"3,row {i} of many\n" for i in range(60))
    rows = _read(_write(tmp_path / "a.csv", body))
    assert rows[0].reason == "unclosed_quote"
    assert rows[0].num_rows > 10
    assert isinstance(rows[-1], Row)


def test_bytes_that_do_not_decode_and_nul_bytes_cost_one_row_each(tmp_path):
    path = _write(tmp_path / "a.csv", b"r,t\n5,caf\xe9\n4,a\0b\n3,fine\n")
    assert _read(path) == [Reject(2, "undecodable_bytes"), Reject(3, "nul_byte"), Row(4, {"rating": "3", "text": "fine"})]
    assert _read(path, encoding="latin-1")[0] == Row(2, {"rating": "5", "text": "café"})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "shift_jis", "cp1252"])
def test_encodings(tmp_path, encoding):
    text = "いい" if encoding == "shift_jis" else "größer"
    path = _write(tmp_path / "a.csv", f"r,t\r\n5,{text}\r\n".encode(encoding))
    assert _read(path, encoding=encoding) == [Row(2, {"rating": "5", "text": text})]


def test_wide_text_that_breaks_off_is_one_error(tmp_path):
    path = _write(tmp_path / "a.csv", "r,t\n5,ok\n".encode("utf-16") + b"\x00")
    with pytest.raises(DataError, match="is not valid utf-16 text"):
        _read(path, encoding="utf-16")


def test_delimiters(tmp_path):
    assert _read(_write(tmp_path / "a.tsv", "r\tt\n5\ta, b\n"))[0].values == {"rating": "5", "text": "a, b"}
    assert _read(_write(tmp_path / "a.csv", "r;t\n5;a, b\n"), delimiter=";")[0].values == {"rating": "5", "text": "a, b"}
    with pytest.raises(UsageError, match="cannot separate columns"):
        _read(_write(tmp_path / "a.csv", "r;t\n5;a\n"), delimiter='"')


@pytest.mark.parametrize(("delimiter", "shown"), [(";", "';'"), ("\t", r'"\\t"'), ("|", r"'\|'")])
def test_a_wrong_delimiter_says_which_it_looks_like(tmp_path, delimiter, shown):
    path = _write(tmp_path / "a.csv", f"r{delimiter}t\n5{delimiter}a\n")
    with pytest.raises(UsageError, match=rf"the header has one column with delimiter ','; it looks like {shown}: set data\.delimiter: {shown}"):
        _read(path)


def test_a_column_that_is_not_there(tmp_path):
    path = _write(tmp_path / "a.csv", "Rating,Review Text\n5,a\n")
    with pytest.raises(
        UsageError, match=r"data\.columns: text is mapped to 'Reviw Text'.*did you mean 'Review Text'\?; its columns are 'Rating', 'Review Text'"
    ):
        _read(path, columns={"rating": "Rating", "text": "Reviw Text"})
    with pytest.raises(UsageError, match="did you mean 'Rating'"):
        _read(path, columns={"rating": "rating"})
    with pytest.raises(UsageError, match=r"'r'.* is there 2 times"):
        _read(_write(tmp_path / "b.csv", "r,r,t\n5,5,a\n"))


def test_json_lines(tmp_path):
    body = '\ufeff{"r":5,"t":"a"}\r\n\n[1]\n{"r":4,"t":NaN}\n{"r":3}\n{"r":2,"t":"\\ud83d"}\n"x"\n{"r":1,"t":"cut'
    rows = _read(_write(tmp_path / "a.jsonl", body))
    assert rows[0] == Row(1, {"rating": 5, "text": "a"})
    assert rows[1] == Reject(3, "not_an_object", "a list")
    assert rows[2].values["text"] != rows[2].values["text"]
    assert rows[3] == Row(5, {"rating": 3})
    assert rows[4] == Row(6, {"rating": 2, "text": "\ud83d"})
    assert rows[5] == Reject(7, "not_an_object", "a str")
    assert (rows[6].line, rows[6].reason) == (8, "malformed_json")
    assert "cut" not in rows[6].detail


def test_json_that_would_break_a_parser(tmp_path):
    path = _write(tmp_path / "a.jsonl", '{"r":5,"t":"a"}\n' + "[" * 100_000 + '\n{"r":' + "9" * 5000 + "}\n")
    assert [row.reason for row in _read(path)[1:]] in (["malformed_json"] * 2, ["malformed_json", "not_an_object"])


def test_parquet_strings_need_not_be_utf8(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    bad = pa.array([b"ok", b"\xff\xfe", b"fine"]).view(pa.string())
    pq.write_table(pa.table({"r": [5, 4, 3], "t": bad}), tmp_path / "a.parquet")
    rows = _read(tmp_path / "a.parquet")
    assert rows == [Row(1, {"rating": 5, "text": "ok"}), Reject(2, "undecodable_bytes"), Row(3, {"rating": 3, "text": "fine"})]


def test_a_parquet_file_damaged_in_the_middle(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table({"r": [5] * 5000, "t": [f"text {i}" for i in range(5000)]}), buffer, compression="zstd")
    data = bytearray(buffer.getvalue())
    data[200 : len(data) // 2] = bytes(len(data) // 2 - 200)
    path = _write(tmp_path / "a.parquet", bytes(data))
    with pytest.raises(DataError, match=r"a\.parquet: the Parquet file is cut off or damaged"):
        _read(path)
