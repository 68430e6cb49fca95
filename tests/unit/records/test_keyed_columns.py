"""Many draws at once are those that privacy/unit.py gives one by one."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penname.privacy import unit
from penname.records.keyed_columns import bound_contributions, keyed_fractions

# What a unit id may hold, lone surrogates among it.
IDENTITIES = st.lists(st.text(st.characters(), max_size=90), max_size=8)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=st.integers(-(2**70), 2**70), purpose=st.text(st.characters(exclude_categories=("Cs",)), max_size=70), identities=IDENTITIES)
@example(seed=0, purpose="x" * 62, identities=["at the block's edge", "\ud800"])
@example(seed=0, purpose="x" * 63, identities=["beyond it", ""])
def test_fractions_are_those_of_single_identities(seed, purpose, identities):
    assert keyed_fractions(seed, purpose, identities) == [unit.keyed_fraction(seed, purpose, identity) for identity in identities]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(identities=IDENTITIES.map(lambda names: list(dict.fromkeys(names))), seed=st.integers(0, 99), max_records=st.integers(1, 9))
def test_the_bound_keeps_the_same_records(identities, seed, max_records):
    expected = unit.bound_contributions(identities, max_records=max_records, seed=seed)
    assert bound_contributions(identities, max_records=max_records, seed=seed) == expected


@pytest.mark.parametrize("num_records", [0, 1, 100])
def test_the_bound_of_many_records(num_records):
    names = [f"r{i}" for i in range(num_records)]
    assert bound_contributions(names, max_records=7, seed=3) == unit.bound_contributions(names, max_records=7, seed=3)
