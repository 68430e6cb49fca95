"""What the patterns find, what they leave, and what counts as replayed."""

import pytest

from penname.evaluate.privacy.personal_data import REPLAYED_PII, PersonalValue, find_by_pattern, scan_names, scan_patterns
from penname.evaluate.samples import Row, RowSet, Samples
from penname.records.canaries import _draw_personas


def found(text, kind):
    return sorted(value.value for value in find_by_pattern(text) if value.kind == kind)


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("call 555-234-5678 or (555) 234-5679, or 1-555-234-5680.", "phone", ["5552345678", "5552345679", "5552345680"]),
        ("ring +44 20 7946 0958 or +49 (30) 901820", "phone", ["442079460958", "4930901820"]),
        ("order 111-1234567-7654321 came late", "order_id", ["11112345677654321"]),
        ("card 4111 1111 1111 1111, also 5500-0000-0000-0004", "card", ["4111111111111111", "5500000000000004"]),
        ("mail John.Doe+x@mail.example.org, thanks", "email", ["john.doe+x@mail.example.org"]),
        ("I live in 4567 Maple Avenue, Apt. 3", "address", ["4567 maple avenue, apt. 3"]),
        ("at 12 N. Old Mill Road since May", "address", ["12 n. old mill road"]),
    ],
)
def test_found(text, kind, expected):
    assert found(text, kind) == expected


@pytest.mark.parametrize(
    "text",
    [
        "It cost 1,234.56 and weighs 555.234 grams",
        "serial 4111 1111 1111 1112 has a wrong check digit",
        "0000 0000 0000 0000",
        "2020-11-22 and 10:30",
        "$555-234-5678 is a joke price",
        "5 stars for this case, 3 times a day",
        "I have 2 Cases",
        "model A1-555-234-56789",
        "foo@bar and @handle",
    ],
)
def test_not_found(text):
    assert find_by_pattern(text) == set()


def test_an_order_id_is_no_phone_and_no_card():
    assert {value.kind for value in find_by_pattern("Order 555-2345678-1234567!")} == {"order_id"}


def test_the_personas_of_our_own_canaries_are_found():
    personas = _draw_personas(200, seed=4)
    for part in ("phone", "email", "order_id"):
        assert all(find_by_pattern(f"Hi, {persona[part]}.") for persona in personas), part
    assert sum(bool(found(f"in {persona['street']}, ok", "address")) for persona in personas) >= 190


def test_invented_and_replayed_are_told_apart_however_they_are_written():
    scan = scan_patterns(["call (555) 234-5678", "call 555-999-8888, a@x.org"], ["my number: 555-234-5678", "A@X.ORG"])
    assert scan.replayed == (PersonalValue("email", "a@x.org"), PersonalValue("phone", "5552345678"))
    assert scan.invented == (PersonalValue("phone", "5559998888"),)


def test_names_are_looked_up_in_train_word_for_word():
    def find(texts):
        return [{PersonalValue("person", "ann lee"), PersonalValue("person", "bob roe")} for _ in texts]

    scan = scan_names(["x"], ["I am ANN  Lee.", "Joann leeds"], find=find)
    assert scan.replayed == (PersonalValue("person", "ann lee"),)
    assert scan.invented == (PersonalValue("person", "bob roe"),)


def test_the_metric_counts_distinct_replayed_values_against_what_real_rows_share():
    def rows(name, texts):
        return RowSet(name, [Row(5, "", text, "C") for text in texts], None)

    train = rows("train", [f"call 555-234-{i:04d}" for i in range(40)])
    replaying = [*(f"call 555-234-{i % 3:04d}" for i in range(9)), "call 555-777-0000"]
    arms = {"leaky": rows("leaky", replaying), "clean": rows("clean", ["fine"] * 10)}
    heldout = rows("heldout", ["ok"] * 10)
    real, leaky, clean = REPLAYED_PII.compute(Samples(train, heldout, rows("test", ["call 555-234-0001"] + ["ok"] * 9), arms, 1, 20, 100))
    assert (real.value, leaky.value, clean.value, leaky.reference, leaky.num_records) == (1.0, 3.0, 0.0, 1.0, 10)
    assert clean.ci95 == (0.0, pytest.approx(3.69, abs=0.01))
