"""Personas: who writes, and how. A user's habits stay the same over all of that user's reviews."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from random import Random

from penname.ingest.marketplace.grammar import read_lists
from penname.ingest.marketplace.products import PHONES, WATCHES
from penname.ingest.marketplace.vocabulary import Vocabulary, make_vocabulary

MAX_REVIEWS_PER_USER = 40
_TAIL_EXPONENT = 2.1
_COUNT_WEIGHTS = [n**-_TAIL_EXPONENT for n in range(1, MAX_REVIEWS_PER_USER + 1)]

_NAMES = read_lists("names.txt")

PLANS = (
    ("open", "claim", "fact", "price", "advice"),
    ("buy", "story", "claim", "comp", "close"),
    ("open", "list", "price", "close"),
    ("look", "tech", "claim", "tech", "contrast", "comp"),
    ("gift", "gift_verdict", "fact", "claim", "close"),
    ("aside", "buy", "look", "claim", "story", "aside", "fact", "close"),
    ("claim", "close"),
    ("comp", "claim", "claim", "minor", "advice"),
    ("ship", "look", "setup", "claim", "price"),
    ("use", "claim", "fact", "claim", "advice"),
    ("claim", "claim", "story", "update"),
    ("fact", "claim", "use", "minor"),
    ("story", "claim", "fact", "close"),
    ("setup", "claim", "contrast", "tech", "advice"),
    ("buy", "claim", "use", "fact", "service", "close"),
)
"""Orders in which writers say things; each writer has three favourites."""

_CONTRACTIONS = (
    (re.compile(r"\b(do|does|did|is|was|has|have|would|could|should|are) not\b"), r"\1n't"),
    (re.compile(r"\b([Cc])annot\b"), r"\1an't"),
    (re.compile(r"\b([Ww])ill not\b"), r"\1on't"),
    (re.compile(r"\bI am (?=\w)"), "I'm "),
    (re.compile(r"\bI have (?=\w+(?:ed|en|had)\b)"), "I've "),
    (re.compile(r"\b([Ii]t|[Tt]hat|[Tt]here|[Nn]othing) is (?=\w)"), r"\1's "),
    (re.compile(r"\bI will (?=\w)"), "I'll "),
    (re.compile(r"\b([Tt]hey|[Yy]ou) are (?=\w)"), r"\1're "),
)
_SHORTHAND = {
    "because": "bc", "with": "w/", "without": "w/o", "really": "rly", "thanks": "thx", "you": "u", "are": "r", "before": "b4", "though": "tho",
    "something": "smth", "okay": "k", "great": "gr8", "people": "ppl", "about": "abt", "months": "mos",
}  # fmt: skip
_MISSPELLED = {
    "definitely": "definately", "received": "recieved", "a lot": "alot", "their": "there", "its": "it's", "too": "to", "than": "then",
    "weird": "wierd", "until": "untill", "really": "realy", "loose": "lose", "surprised": "suprised", "separate": "seperate",
    "beautiful": "beautifull", "would have": "would of", "quite": "quiet", "does not": "dosent", "lose": "loose", "perfectly": "perfecty",
}  # fmt: skip
_EMOJI = {
    1: ["😡", "👎", "🙄", "😤"],
    2: ["😕", "👎", "😒"],
    3: ["🤷", "😐", "🤔"],
    4: ["👍", "🙂", "😊"],
    5: ["😍", "👍", "❤️", "🔥", "😊", "👌", "⭐⭐⭐⭐⭐"],
}


@dataclass(frozen=True, slots=True)
class Writer:
    """One user of the marketplace."""

    user_id: str
    num_reviews: int
    job: str
    pet: str
    phone: str
    plans: tuple[tuple[str, ...], ...]
    vocabulary: Vocabulary
    wordiness: float
    """Factor on the length of this user's reviews."""
    leniency: float
    """Mean shift of this user's ratings."""
    joins: float
    """How often two sentences are run together."""
    exclaims: float
    lowercase: bool
    contracts: bool
    shorthand: bool
    shouts: bool
    typo_prob: float
    """Per word."""
    emoji_prob: float
    """Per review."""
    is_technical: bool


def make_writer(seed: int, index: int) -> Writer:
    """Invents user number `index` of a marketplace."""
    rng = Random(f"{seed}/writer/{index}")
    digest = hashlib.sha256(f"{seed}/user/{index}".encode()).digest()
    style = rng.choice(("plain", "plain", "plain", "plain", "terse", "rambling", "lowercase", "exclaiming", "careless", "technical", "texting"))
    return Writer(
        user_id="AE" + base64.b32encode(digest)[:26].decode(),
        num_reviews=rng.choices(range(1, MAX_REVIEWS_PER_USER + 1), _COUNT_WEIGHTS)[0],
        job=rng.choice(_NAMES["jobs"]),
        pet=rng.choice(_NAMES["pets"]),
        phone=rng.choice(PHONES) if rng.random() < 0.95 else rng.choice(WATCHES),
        plans=tuple(rng.sample(PLANS, 3)),
        vocabulary=make_vocabulary(rng),
        wordiness={"terse": 0.55, "rambling": 1.9, "technical": 1.4, "texting": 0.7}.get(style, 1.0),
        leniency=rng.gauss(0, 0.25),
        joins={"rambling": 0.5, "lowercase": 0.35, "terse": 0.0}.get(style, 0.12),
        exclaims={"exclaiming": 0.6, "technical": 0.0}.get(style, 0.05),
        lowercase=style in ("lowercase", "texting") and rng.random() < 0.9,
        contracts=rng.random() < 0.7,
        shorthand=style == "texting",
        shouts=rng.random() < 0.06,
        typo_prob={"careless": 0.014, "lowercase": 0.012, "texting": 0.012}.get(style, 0.0015),
        emoji_prob={"exclaiming": 0.18, "texting": 0.2}.get(style, 0.015),
        is_technical=style == "technical",
    )


def apply_style(text: str, writer: Writer, rating: int, rng: Random, *, protected: Collection[str] = ()) -> str:
    """Turns plain text into this writer's text; words of `protected` (the key words of facts) stay as they are."""
    if writer.contracts:
        for pattern, replacement in _CONTRACTIONS:
            text = pattern.sub(replacement, text)
    words = text.split(" ")
    kept = tuple(word.lower() for phrase in protected for word in phrase.split() if len(word) > 2)
    for i, word in enumerate(words):
        bare = word.strip(".,!?;:()").lower()
        if kept and bare.startswith(kept):
            continue
        if writer.shorthand and bare in _SHORTHAND and rng.random() < 0.5:
            words[i] = word.lower().replace(bare, _SHORTHAND[bare])
        elif rng.random() < writer.typo_prob and len(bare) > 2 and bare.isalpha():
            words[i] = _misspell(word, bare, rng)
        elif writer.shouts and len(bare) > 3 and rng.random() < 0.03:
            words[i] = word.upper()
    text = " ".join(words)
    if writer.lowercase:
        text = text.lower()
    if rng.random() < writer.emoji_prob:
        text += " " + rng.choice(_EMOJI[rating]) * rng.choice((1, 1, 1, 2, 3))
    return text


def _misspell(word: str, bare: str, rng: Random) -> str:
    """A wrong spelling that people really make, or a slip of the fingers."""
    if bare in _MISSPELLED:
        return word.replace(bare, _MISSPELLED[bare])
    if len(bare) < 4:
        return word
    i = word.lower().find(bare) + rng.randint(1, len(bare) - 2)
    slip = rng.random()
    if slip < 0.4:
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    return word[:i] + word[i + 1 :] if slip < 0.75 else word[:i] + word[i] + word[i:]
