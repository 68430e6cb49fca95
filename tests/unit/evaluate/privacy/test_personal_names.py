"""Names by Presidio's model; and without the extra, left out by name."""

import importlib.util

import pytest

from penname.evaluate.privacy import personal_names
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.privacy.personal_data import PersonalValue, scan_names
from penname.evaluate.privacy.personal_names import REPLAYED_NAMES, NameFinder, is_english
from penname.evaluate.samples import Row, RowSet, Samples


def test_names_are_found_and_brands_and_other_languages_are_not():
    finder = NameFinder(["Alan Parsons Leather Case"])
    texts = [
        "My name is Alex Johnson and I live in Boston with my family.",
        "It was a gift from Alan Parsons and it arrived on Monday, 5 May.",
        "Meine Schwester Anna Müller wohnt in Hamburg und mag die Hülle sehr gern.",
        "",
    ]
    found = finder.find(texts)
    assert PersonalValue("person", "alex johnson") in found[0]
    assert PersonalValue("place", "boston") in found[0]
    assert found[1:] == [set(), set(), set()]
    # What stands around a sentence does not hide its name.
    (around,) = finder.find(["works well and looks good. my husband Alex Johnson in Boston has it too! would buy again"])
    assert around == found[0]
    # A line end is the end of a sentence: nothing of this is scanned.
    assert finder.find(["it is good and i like it\nWould buy it again for my phone"]) == [set()]
    scan = scan_names(texts[:1], ["Alex Johnson was here"], find=finder.find)
    assert scan.replayed == (PersonalValue("person", "alex johnson"),)


def make_samples(text):
    sets = {name: RowSet(name, [Row(5, "", text, "C")] * 4, None) for name in ("train", "heldout", "test", "arm")}
    return Samples(sets["train"], sets["heldout"], sets["test"], {"arm": sets["arm"]}, 1, 20, 100)


def test_a_language_that_the_model_does_not_know_is_left_out_and_named():
    with pytest.raises(LeftOutError, match="replayed_pii_num_names: 4 of 4 texts of real are not English"):
        REPLAYED_NAMES.compute(make_samples("Die Hülle passt sehr gut und sieht auch noch schön aus"))


@pytest.mark.parametrize("package", ["presidio_analyzer", personal_names.MODEL_PACKAGE])
def test_without_the_extra_the_figure_is_left_out_with_what_to_install(monkeypatch, package):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find_spec(name))
    personal_names._load_analyzer.cache_clear()
    with pytest.raises(LeftOutError, match=rf"names of persons and places need {package}; pip install 'penname\[pii\]'"):
        NameFinder()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is great and I love the colour of it", True),
        ("Love it", True),
        ("", False),
        ("Funda muy bonita y resistente para mi teléfono nuevo", False),
        ("这个手机壳很好用", False),
    ],
)
def test_is_english(text, expected):
    assert is_english(text) is expected
