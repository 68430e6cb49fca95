"""What is known of Amazon Reviews 2023."""

import pytest

from penname.errors import UsageError
from penname.ingest.data_sets import CATEGORIES, HOME_URL, MIRROR_URL, RawFile, find_category, list_raw_files


def test_there_are_33_categories():
    assert len(set(CATEGORIES)) == 33
    # The makers' list of them, with Unknown and a line end each, has 585 bytes.
    assert sum(len(name) + 1 for name in (*CATEGORIES, "Unknown")) == 585


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("All_Beauty", "All_Beauty"),
        ("cell phones & accessories", "Cell_Phones_and_Accessories"),
        ("Arts, Crafts and Sewing", "Arts_Crafts_and_Sewing"),
        ("unknown", "Unknown"),
    ],
)
def test_a_category_is_found_however_it_is_spelled(said, meant):
    assert find_category(said) == meant


def test_a_misspelt_category_gets_the_nearest_ones():
    with pytest.raises(UsageError, match=r"'Cell_Fones': no such category; the nearest are Cell_Phones_and_Accessories|Cell_Fones.*there are All_Beauty"):
        find_category("Cell_Fones")
    with pytest.raises(UsageError, match="the nearest are Electronics"):
        find_category("Elektronics")
    with pytest.raises(UsageError, match=r"there are All_Beauty, .*Video_Games, Unknown$"):
        find_category("../../etc/passwd")


def test_the_two_files_of_a_category():
    assert list_raw_files("All_Beauty", base_url=None, mirror=False) == (
        RawFile("All_Beauty.jsonl.gz", f"{HOME_URL}/review_categories/All_Beauty.jsonl.gz"),
        RawFile("meta_All_Beauty.jsonl.gz", f"{HOME_URL}/meta_categories/meta_All_Beauty.jsonl.gz"),
    )
    assert list_raw_files("Books", base_url=None, mirror=True)[1] == RawFile("meta_Books.jsonl", f"{MIRROR_URL}/meta_categories/meta_Books.jsonl")
    assert list_raw_files("Books", base_url="http://127.0.0.1:8/raw/", mirror=True)[0].url == "http://127.0.0.1:8/raw/review_categories/Books.jsonl"
