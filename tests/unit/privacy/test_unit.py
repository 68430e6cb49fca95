import hmac

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penname.privacy.errors import PrivacyError
from penname.privacy.unit import bound_contributions, define_unit, group_by_unit, keyed_fraction, keyed_fractions

# What an id may hold, lone surrogates among it.
IDENTITIES = st.lists(st.text(st.characters(), max_size=90), max_size=8)


def test_every_kind_of_unit_is_defined():
    assert define_unit("user", None) == "one user: everything that one user id wrote"
    assert define_unit("record", None).startswith("one record: a single review;")
    assert define_unit("column", "household_id") == "one value of the column household_id: every record that carries it"
    assert "column {0} {unit_column}:" in define_unit("column", "{0} {unit_column}")


@pytest.mark.parametrize(
    ("privacy_unit", "unit_column", "message"),
    [
        ("family", None, "privacy_unit: 'family' is not one of user, record, column"),
        ("auto", None, "privacy_unit: 'auto'"),
        ([], None, r"privacy_unit: \[\]"),
        (None, None, "privacy_unit: None"),
        ("column", None, "unit_column: privacy_unit column needs the name of a column, None is none"),
        ("column", " ", "unit_column"),
        ("column", "a\nb", "unit_column"),
        ("column", 7, "unit_column"),
        ("user", "home", "unit_column: is 'home', but privacy_unit user has no column"),
        ("record", "", "unit_column"),
    ],
)
def test_no_other_unit_is_defined(privacy_unit, unit_column, message):
    with pytest.raises(PrivacyError, match=message):
        define_unit(privacy_unit, unit_column)


def test_a_fraction_depends_on_seed_purpose_and_identity():
    base = keyed_fraction(1, "split", "user-7")
    assert base == keyed_fraction(1, "split", "user-7")
    assert len({base, keyed_fraction(2, "split", "user-7"), keyed_fraction(1, "keep", "user-7"), keyed_fraction(1, "split", "user-8")}) == 4


def test_fractions_are_uniform():
    fractions = sorted(keyed_fraction(3, "split", f"user-{i}") for i in range(4000))
    # Kolmogorov's distance; a uniform sample exceeds 1.95 / sqrt(n) once in a thousand seeds, and this seed is fixed.
    assert max(abs(fraction - i / 4000) for i, fraction in enumerate(fractions)) < 1.95 / 4000**0.5


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=st.integers(-(2**70), 2**70), purpose=st.text(st.characters(exclude_categories=("Cs",)), max_size=70), identities=IDENTITIES)
@example(seed=0, purpose="x" * 62, identities=["at the block's edge", "\ud800"])
@example(seed=0, purpose="x" * 63, identities=["beyond it", ""])
def test_fractions_are_an_hmac_of_each_identity(seed, purpose, identities):
    digests = [hmac.digest(f"{purpose}:{seed}".encode(), identity.encode(errors="surrogatepass"), "sha256") for identity in identities]
    assert keyed_fractions(seed, purpose, identities) == [int.from_bytes(digest[:7], "big") / 2**56 for digest in digests]


@pytest.mark.parametrize("identity", ["", "\ud800", "a:b", "\N{GRINNING FACE}"])
def test_any_identity_has_a_fraction(identity):
    assert 0 <= keyed_fraction(1, "split", identity) < 1


@pytest.mark.parametrize(("num_records", "max_records", "kept"), [(0, 3, 0), (2, 3, 2), (3, 3, 3), (9, 3, 3), (5, 1, 1)])
def test_a_unit_keeps_at_most_the_bound(num_records, max_records, kept):
    chosen = bound_contributions([[f"r{i}" for i in range(num_records)]], max_records=max_records, seed=1)
    assert len(chosen) == kept
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(range(num_records))


def test_the_choice_follows_the_ids_and_not_their_order():
    ids = [f"r{i}" for i in range(10)]
    chosen = {ids[i] for i in bound_contributions([ids], max_records=3, seed=5)}
    backwards = ids[::-1]
    assert {backwards[i] for i in bound_contributions([backwards], max_records=3, seed=5)} == chosen


def test_the_choice_is_drawn_and_not_the_first():
    ids = [f"r{i}" for i in range(6)]
    chosen = [bound_contributions([ids], max_records=1, seed=seed)[0] for seed in range(600)]
    assert all(60 < chosen.count(i) < 140 for i in range(6))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(units=st.lists(IDENTITIES.map(lambda names: list(dict.fromkeys(names))), max_size=5), seed=st.integers(0, 99), max_records=st.integers(1, 9))
@example(units=[[], ["a"], []], seed=0, max_records=1)
@example(units=[[f"r{i}" for i in range(100)], [f"r{i}" for i in range(50, 150)]], seed=3, max_records=7)
def test_each_unit_keeps_the_records_that_it_would_keep_alone(units, seed, max_records):
    expected, start = [], 0
    for names in units:
        drawn = sorted(range(len(names)), key=lambda i: keyed_fraction(seed, "bound_contributions", names[i]))
        expected += [start + place for place in sorted(drawn[:max_records])]
        start += len(names)
    assert bound_contributions(units, max_records=max_records, seed=seed) == expected


def test_grouping_loses_nothing():
    assert group_by_unit([]) == []
    assert group_by_unit(["b", "a", "b", "b", "c"]) == [[0, 2, 3], [1], [4]]
