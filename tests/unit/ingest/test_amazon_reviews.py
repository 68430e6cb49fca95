import doctest

import pytest

from penname.errors import DataError, UsageError
from penname.ingest import amazon_reviews
from penname.ingest.amazon_reviews import choose_category, open_products, open_reviews
from penname.ingest.tabular import check_table


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(amazon_reviews) == (0, 1)


@pytest.mark.parametrize(
    ("path", "level", "category"),
    [
        (["A", "B", "C"], 0, "A"),
        (["A", "B", "C"], 2, "C"),
        (["A"], 1, "A"),
        ([], 1, ""),
        (None, 1, ""),
        ("A", 1, None),
        ([1, 2], 1, None),
    ],
)
def test_choose_category(path, level, category):
    assert choose_category(path, level=level) == category


def test_a_csv_is_refused_by_its_name(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match=r"reviews\.csv: is no \.jsonl file"):
        open_reviews(path)


def test_a_directory_is_named_as_such(tmp_path):
    with pytest.raises(DataError, match="is a directory"):
        check_table(open_products(tmp_path))
