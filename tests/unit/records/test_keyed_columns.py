"""Many draws at once are those that privacy/unit.py gives one by one."""

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


@settings(max_examples=150, deadline=None, derandomize=True)
@given(units=st.lists(IDENTITIES.map(lambda names: list(dict.fromkeys(names))), max_size=5), seed=st.integers(0, 99), max_records=st.integers(1, 9))
@example(units=[[], ["a"], []], seed=0, max_records=1)
@example(units=[[f"r{i}" for i in range(100)], [f"r{i}" for i in range(50, 150)]], seed=3, max_records=7)
def test_each_unit_keeps_the_records_that_it_would_keep_alone(units, seed, max_records):
    expected, start = [], 0
    for names in units:
        expected += [start + place for place in unit.bound_contributions(names, max_records=max_records, seed=seed)]
        start += len(names)
    assert bound_contributions(units, max_records=max_records, seed=seed) == expected
