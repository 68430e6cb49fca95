"""Language drift, and what happens without the library."""

import sys

import pytest

from penname.evaluate.fidelity.language import detect_languages
from penname.evaluate.privacy.errors import LeftOutError


def test_languages_are_told_and_short_texts_are_not_guessed():
    texts = [
        "The case broke after three weeks of use and nobody helped me with it.",
        "Die Hülle ist leider nach drei Wochen kaputt gegangen und niemand hat mir geholfen.",
        "La funda se rompió después de tres semanas y nadie me ayudó con ella.",
        "ok",
    ]
    assert detect_languages(texts) == ["en", "de", "es", ""]


def test_without_the_extra_it_is_left_out_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "py3langid", None)
    with pytest.raises(LeftOutError, match=r"pip install 'penname\[language\]'"):
        detect_languages(["x"])
