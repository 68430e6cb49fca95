"""A writer's own words: favourite synonyms, fillers and ways to begin a sentence. The grammar says what, this says in whose words."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from random import Random

from penname.ingest.marketplace.grammar import read_lists

_SYNONYMS = {
    "really": "truly|genuinely|seriously|actually|honestly",
    "very": "super|extremely|awfully|incredibly|rather|mighty",
    "bought": "purchased|ordered|got|snagged|went for",
    "phone": "cell|smartphone|cellphone|device",
    "does not": "will not|does not really|simply does not",
    "whole": "entire|complete",
    "people": "folks|people I know|strangers",
    "kids": "children|little ones|boys",
    "because": "since|as|seeing that",
    "so far": "to date|thus far|up to now|as of today",
    "problem": "issue|trouble spot",
    "price": "cost|asking price",
    "exactly": "precisely|pretty much exactly",
    "perfectly": "beautifully|flawlessly|just right",
    "easily": "with ease|without a struggle|no sweat",
    "seller": "vendor|shop|merchant",
    "great": "terrific|fabulous|awesome|first-rate",
    "nice": "pleasant|neat|lovely|fine",
    "right away": "immediately|instantly|at once",
    "mom": "mother|mama|mum",
    "dad": "father|papa|old man",
    "husband": "hubby|better half|spouse",
    "wife": "spouse|better half",
    "daughter": "girl|kid",
    "son": "boy|kid",
    "always": "constantly|consistently|without fail",
    "needed": "required|was after|had to have",
    "noticed": "saw|observed|spotted|caught",
    "pointed out": "mentioned|remarked|commented",
    "a lot": "plenty|a great deal|tons",
    "trip": "vacation|journey|getaway",
    "broke": "fell apart|gave way|cracked up",
    "recommend": "suggest|vouch for|endorse",
    "wobbles": "jiggles|rocks",
    "cheap": "cheapo|bargain-bin|low-rent",
    "disappointed": "let down|bummed|dissatisfied",
    "happy": "pleased|content|delighted|tickled",
    "during": "all through|throughout|in the course of",
    "minutes": "min",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "eight": "8",
    "ten": "10",
    "a dozen": "12|about a dozen",
    "weeks": "wks",
    "months": "mos",
}  # fmt: skip
_SYNONYM_LISTS = {word: options.split("|") for word, options in _SYNONYMS.items()}
_SYNONYM = re.compile(r"\b(" + "|".join(sorted(map(re.escape, _SYNONYM_LISTS), key=len, reverse=True)) + r")\b(?!['-]| hundred| point)")
_NAMES = read_lists("names.txt")
_FILLER_VERBS = (
    "is|was|has|had|does|took|takes|needs|gets|got|keeps|holds|fits|feels|looks|charges|stays|smells|makes|blinks|use|used|wanted|needed|bought"
    "|ordered|love|like|expected|hoped|noticed|tried|dropped|wore|plugged|forgot|cracked|died|quit|lifts|itches|sags|falls|slips|survived|comes"
)
_FILLER_PLACE = re.compile(rf"\b(it|I|they|she|he|we) (?=(?:{_FILLER_VERBS})\b)")
_SUBJECTS = frozenset(_NAMES["subjects"])
"""A sentence that begins so has a subject of its own and takes a marker before it."""
_AFTER_IS = "a|an|the|that|one|not|more|less|too|just|easy|hard|soft|solid|stiff|loose|bulkier|gone|cool|hot|missing|fast|worth"
_IS_PLACE = re.compile(rf"\b(is|was) (?=(?:{_AFTER_IS})\b)")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words that one writer prefers."""

    synonyms: dict[str, str]
    fillers: tuple[str, ...]
    filler_prob: float
    """Per place where one could stand."""
    markers: tuple[str, ...]
    marker_prob: float
    """Per sentence, the first excepted."""


def make_vocabulary(rng: Random) -> Vocabulary:
    """Invents a writer's vocabulary."""
    synonyms = {word: rng.choice(options) for word, options in _SYNONYM_LISTS.items() if rng.random() < 0.55}
    return Vocabulary(synonyms, tuple(rng.sample(_NAMES["fillers"], 5)), rng.uniform(0, 0.6), tuple(rng.sample(_NAMES["markers"], 8)), rng.uniform(0, 0.42))


def replace_words(text: str, vocabulary: Vocabulary, rng: Random, protected: Collection[str]) -> str:
    """Puts the writer's synonyms and fillers into a text; words within `protected` phrases stay."""
    fixed = {word for phrase in protected for word in phrase.lower().split()}

    def swap(match: re.Match[str]) -> str:
        word = match.group(1)
        if word not in vocabulary.synonyms or word in fixed or rng.random() < 0.25:
            return word
        return vocabulary.synonyms[word]

    num_fillers = 0

    def fill(match: re.Match[str]) -> str:
        nonlocal num_fillers
        if not num_fillers and rng.random() < vocabulary.filler_prob and match.group(1) not in fixed:
            num_fillers += 1
            return f"{match.group(1)} {rng.choice(vocabulary.fillers)} "
        return match.group(0)

    text = _SYNONYM.sub(swap, text)
    return _IS_PLACE.sub(fill, _FILLER_PLACE.sub(fill, text))


def mark_sentence(sentence: str, vocabulary: Vocabulary, rng: Random) -> str:
    """Begins a sentence the writer's way, now and then; those that begin with a frame of their own stay."""
    if rng.random() >= vocabulary.marker_prob or ":" in sentence or sentence.partition(" ")[0] not in _SUBJECTS:
        return sentence
    return f"{rng.choice(vocabulary.markers)} {sentence}"
