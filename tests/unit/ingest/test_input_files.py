import pytest

from penname.errors import DataError
from penname.ingest.input_files import find_files


def _names(path):
    return [file.name for file in find_files(path, option="data.reviews")]


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jsonl", "a.jsonl.zst", "c.JSONL.gz", ".hidden.jsonl", "_notes.jsonl", "README.md", "_SUCCESS", "deep/d.jsonl", "deep/deeper/e.jsonl"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    return tmp_path / "data"


def test_a_folder_is_its_files_of_a_known_format_by_name(folder):
    assert _names(folder) == ["a.jsonl.zst", "b.jsonl", "c.JSONL.gz"]


BELOW = ["_notes.jsonl", "b.jsonl", "deep/d.jsonl", "deep/deeper/e.jsonl"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [("*.jsonl", ["_notes.jsonl", "b.jsonl"]), ("[ab].*", ["a.jsonl.zst", "b.jsonl"]), ("**/*.jsonl", BELOW), ("deep/?.jsonl", ["d.jsonl"])],
)
def test_a_pattern_is_the_files_that_fit_it(folder, pattern, names):
    assert _names(folder / pattern) == names


def test_one_file_is_taken_as_it_is(folder):
    odd = folder / "odd[1].jsonl"
    odd.write_text("{}")
    assert _names(odd) == ["odd[1].jsonl"]
    assert _names(folder / "gone.csv") == ["gone.csv"]


def test_nothing_and_several_formats_are_errors(folder):
    (folder / "x.csv").write_text("a")
    with pytest.raises(
        DataError, match=r"data: holds files of several formats, a\.jsonl\.zst and x\.csv; name those of one with a pattern such as data\.reviews: "
    ):
        find_files(folder, option="data.reviews")
    with pytest.raises(DataError, match=r"\*\.parquet: no file fits this pattern; check data\.reviews"):
        find_files(folder / "*.parquet", option="data.reviews")
