"""Taking one unit away changes nothing for the others: neither their split, nor which of their records are chosen."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penname.config import RecordsConfig
from penname.ingest.duplicates import DuplicateFilter
from penname.privacy.unit import bound_contributions, group_by_unit
from penname.records.records import _name_records
from penname.records.split import split_by_unit
from penname.schemas import Review

CONFIG = RecordsConfig(max_records_per_user=2, keep_frac=0.8)


def make_review(user_id, text, rating=5):
    return Review("r.jsonl:1", user_id, rating, "Title", text, "Cases", "B0", "Product")


# Few users and few texts: equal rows, within one user and across users, are the rule.
REVIEWS = st.lists(
    st.builds(make_review, st.sampled_from(["ann", "bob", "cat", "dan"]), st.sampled_from(["good", "bad", "so so"]), st.integers(4, 5)), max_size=14
)


def split_rows(reviews, unit):
    """What the stage does with reviews: {(unit, record): split}."""
    record_ids = _name_records(reviews)
    unit_ids = [review.user_id or "" for review in reviews] if unit == "user" else record_ids
    kept = {}
    for positions in group_by_unit(unit_ids):
        split = split_by_unit(unit_ids[positions[0]], CONFIG)
        chosen = bound_contributions([record_ids[i] for i in positions], max_records=CONFIG.max_records_per_user, seed=CONFIG.seed)
        if split is not None:
            kept |= {(unit_ids[positions[i]], record_ids[positions[i]]): (split, reviews[positions[i]].text) for i in chosen}
    return kept


@settings(max_examples=150, deadline=None, derandomize=True)
@given(reviews=REVIEWS, data=st.data())
def test_removing_a_user_leaves_the_others_where_they_were(reviews, data):
    gone = data.draw(st.sampled_from(["ann", "bob", "cat", "dan"]))
    with_all = split_rows(reviews, "user")
    without = split_rows([review for review in reviews if review.user_id != gone], "user")
    assert without == {key: value for key, value in with_all.items() if key[0] != gone}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(reviews=REVIEWS.filter(bool), data=st.data())
def test_removing_a_record_takes_exactly_one_unit_away(reviews, data):
    gone = data.draw(st.integers(0, len(reviews) - 1))
    with_all = split_rows(reviews, "record")
    without = split_rows(reviews[:gone] + reviews[gone + 1 :], "record")
    assert without.items() <= with_all.items()
    assert len(with_all) - len(without) <= 1


@settings(max_examples=100, deadline=None, derandomize=True)
@given(reviews=REVIEWS)
def test_a_user_keeps_at_most_the_bound_and_one_split(reviews):
    kept = split_rows(reviews, "user")
    for user in {review.user_id for review in reviews}:
        mine = [split for (unit, _), (split, _) in kept.items() if unit == user]
        assert len(mine) <= CONFIG.max_records_per_user
        assert len(set(mine)) <= 1


@pytest.mark.parametrize("has_user_ids", [True, False])
@settings(max_examples=150, deadline=None, derandomize=True)
@given(reviews=REVIEWS.filter(bool), data=st.data())
def test_dropping_duplicates_is_stable(has_user_ids, reviews, data):
    """One row more changes the rows that are kept by at most one: with user ids only rows of the same user, without them in all."""
    if not has_user_ids:
        reviews = [make_review(None, review.text, review.rating) for review in reviews]
    gone = data.draw(st.integers(0, len(reviews) - 1))

    def keep(rows):
        seen = DuplicateFilter()
        return {(row.user_id, row.rating, row.text) for row in rows if not seen.is_duplicate(row)}

    changed = keep(reviews) ^ keep(reviews[:gone] + reviews[gone + 1 :])
    assert len(changed) <= 1
    assert all(user == reviews[gone].user_id for user, _, _ in changed)
