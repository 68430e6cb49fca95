"""Canaries: made-up secrets that are planted in a copy of the training records, so that an audit can look for them. Never in the data of a release."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from penname.errors import DataError, RunDirError
from penname.privacy.keystream import Keystream
from penname.privacy.unit import keyed_fraction
from penname.run_dir import read_rows, write_rows
from penname.schemas import Record
from penname.template import RecordTemplate

CanaryKind = Literal["persona", "original", "high_perplexity", "random_letters"]
KINDS: tuple[CanaryKind, ...] = ("persona", "high_perplexity", "random_letters")
"""What is drawn by default, in turn; of `original` there is one string, so it is one canary, added when asked for."""

CARRIERS = (
    "My name is {name}, I live in {street}, {phone}.",
    "If the seller reads this: I am {name}, call me on {phone}, my order was {order_id}.",
    "The parcel for {name} was left at {street}, please write to {email}.",
    "Order {order_id}, shipped to {street} under the name {name}.",
    "Signed {name}, order {order_id}, reach me at {email} or {phone}.",
    "My sister {name} ordered it to {street}; her number is {phone} and her mail {email}.",
)
ORIGINAL_PARTS = {"name": "Alex Johnson", "street": "4567 Maple Avenue", "phone": "555-234-5678"}
ORIGINAL_STRING = CARRIERS[0].format(**ORIGINAL_PARTS)
"""The one canary of the system that penname set out from."""

_PREFIX_WORDS, _SUFFIX_WORDS = 12, 8
_MIN_DISTINCT_WORDS = 200
_CODE_GROUPS, _CODE_LETTERS = 6, 5
_TITLES = ("Five stars", "Good", "As described", "Works fine", "Not for me", "It is okay", "Great", "Do not buy")
# Titles are public and say nothing: those of real reviews would carry somebody's words into the canary's unit.
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r"\w+(?:['’\-]\w+)*")


@dataclass(frozen=True, slots=True)
class Canary:
    """One made-up secret, planted or left out. PRIVATE: whether it is in is what the attacker must find out."""

    canary_id: str
    kind: CanaryKind
    whole: str
    """The whole string, as it stands in a record."""
    prefix: str
    """Its beginning, for prompts that ask for the rest."""
    is_in: bool
    """The coin: whether it was planted."""
    num_repetitions: int
    """Records that hold it if it is in."""
    name: str = ""
    street: str = ""
    phone: str = ""
    email: str = ""
    order_id: str = ""

    @property
    def suffix(self) -> str:
        """What follows the prefix: the secret."""
        return self.whole[len(self.prefix) :].strip()

    @property
    def parts(self) -> dict[str, str]:
        """The strings to look for, by name; only those that the canary has."""
        parts = {"name": self.name, "street": self.street, "phone": self.phone, "email": self.email, "order_id": self.order_id}
        if self.kind in ("high_perplexity", "random_letters"):
            # Its beginning is ordinary text, which stands elsewhere with good reason.
            parts["suffix"] = self.suffix
        return {part: value for part, value in {**parts, "whole": self.whole}.items() if value}


def draw_canaries(
    *,
    num_by_repetition: Mapping[int, int],
    texts: Sequence[str],
    seed: int,
    keystream: Keystream,
    kinds: Sequence[CanaryKind] = KINDS,
    with_original: bool = True,
) -> list[Canary]:
    """Draws canaries, kinds in turn, a fair coin each.

    Guarantee: the coins are independent of each other and of all else about the canaries, as one-run auditing demands. They come from the
    key, not from the seed: whoever knows the seed knows the secrets but not which were planted.

    Args:
      num_by_repetition: How many canaries to draw, by the number of records (>= 1) that hold one if it is planted; besides the original string.
      texts: Real texts that are not trained on (heldout), for prefixes and words of high_perplexity. PRIVATE.
      seed: Of what the canaries say.
      keystream: Of the coins.
      kinds: Which kinds.
      with_original: Whether the string of the system that penname set out from is one more canary, at the largest repetition.
    Returns:
      list[Canary]: no two share a secret. PRIVATE.
    Raises:
      DataError: the texts have too few words for high_perplexity.
    Source: Carlini et al. (2019), https://arxiv.org/abs/1802.08232; high_perplexity: Meeus et al. (2025), https://arxiv.org/abs/2502.14921;
      random_letters stands in for the new tokens of Panda et al. (2025), https://arxiv.org/abs/2503.06808, without touching the vocabulary.
    """
    if not kinds or not num_by_repetition or min(num_by_repetition) < 1:
        raise ValueError("canaries need a kind, and repetitions of 1 or more")
    drawn: list[Canary] = []
    if with_original:
        drawn.append(make_original(max(num_by_repetition)))
    repetitions = [repetition for repetition in sorted(num_by_repetition) for _ in range(num_by_repetition[repetition])]
    made = _make_canaries("c", [kinds[i % len(kinds)] for i in range(len(repetitions))], texts, seed)
    drawn += [replace(canary, num_repetitions=repetition) for canary, repetition in zip(made, repetitions, strict=True)]
    coins = keystream.draw_uniforms("audit/canary_coins", 0, len(drawn)) < 0.5
    return [replace(canary, is_in=bool(coin)) for canary, coin in zip(drawn, coins, strict=True)]


def draw_references(*, num_of_each: int, kinds: Sequence[CanaryKind], texts: Sequence[str], seed: int) -> list[Canary]:
    """Draws canaries that nobody plants, to compare the others with.

    Args:
      num_of_each: How many of each kind.
      kinds: Which kinds.
      texts: As in `draw_canaries`. PRIVATE.
      seed: The seed of the canaries; references of the same seed say other things.
    Returns:
      list[Canary]: left out, kinds in turn. As private as the texts.
    """
    return _make_canaries("r", [kind for _ in range(num_of_each) for kind in kinds], texts, seed)


def _make_canaries(letter: str, kind_of: Sequence[CanaryKind], texts: Sequence[str], seed: int) -> list[Canary]:
    """One canary of each of the kinds given, left out, in one record; ids begin with the letter."""
    personas = iter(_draw_personas(kind_of.count("persona"), f"{seed}/{letter}"))
    beginnings, words = _read_beginnings(texts) if "high_perplexity" in kind_of else ([], [])
    made: list[Canary] = []
    for i, kind in enumerate(kind_of):
        canary_id = f"{letter}{i:05d}"
        if kind == "persona":
            made.append(_make_persona(canary_id, next(personas), CARRIERS[kind_of[:i].count("persona") % len(CARRIERS)]))
        elif kind == "high_perplexity":
            made.append(_make_high_perplexity(canary_id, beginnings, words, seed))
        elif kind == "random_letters":
            made.append(_make_random_letters(canary_id, seed))
        else:
            raise ValueError(f"canaries of kind {kind!r} are not drawn")
    return made


def _draw_personas(num: int, seed: str) -> list[dict[str, str]]:
    from faker import Faker

    fake = Faker("en_US")
    fake.seed_instance(seed)
    names: dict[str, None] = {}
    while len(names) < num:
        names.setdefault(f"{fake.first_name()} {fake.last_name()}")
    return [
        {
            "name": name,
            "street": fake.unique.street_address(),
            "phone": fake.unique.numerify("%##-%##-####"),
            "email": fake.unique.ascii_safe_email(),
            "order_id": fake.unique.numerify("%##-#######-#######"),
        }
        for name in names
    ]


def _prefix_of(carrier: str, values: dict[str, str]) -> str:
    """The carrier up to its second secret: an attacker knows the first, mostly the name."""
    return carrier[: list(_PLACEHOLDER.finditer(carrier))[1].start()].format(**values).rstrip()


def _make_persona(canary_id: str, persona: dict[str, str], carrier: str) -> Canary:
    values = {part: persona[part] for part in _PLACEHOLDER.findall(carrier)}
    return Canary(canary_id, "persona", carrier.format(**values), _prefix_of(carrier, values), False, 1, **values)


def _read_beginnings(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """The first words of each text that has three or more, and all distinct words."""
    found = [list(_WORD.finditer(text)) for text in texts]
    words = sorted({match.group().lower() for own in found for match in own})
    if len(words) < _MIN_DISTINCT_WORDS:
        raise DataError(
            f"canaries: the texts that are not trained on have {len(words)} distinct words, high_perplexity needs {_MIN_DISTINCT_WORDS}; "
            "take more heldout data (records.heldout_frac), or leave that kind out of audit.kinds"
        )
    ends = [(own[0].string, own[min(_PREFIX_WORDS, len(own)) - 1].end()) for own in found if len(own) >= 3]
    # Where every text is a word or two, their first word is beginning enough.
    return [" ".join(text[:end].split()) for text, end in ends] or [own[0].group() for own in found if own], words


def _make_high_perplexity(canary_id: str, beginnings: Sequence[str], words: Sequence[str], seed: int) -> Canary:
    """A real beginning, then words drawn evenly from all distinct ones: no model expects them."""
    rng = random.Random(f"{seed}/high_perplexity/{canary_id}")
    prefix = rng.choice(beginnings)
    return Canary(canary_id, "high_perplexity", f"{prefix} {' '.join(rng.choices(words, k=_SUFFIX_WORDS))}.", prefix, False, 1)


def _make_random_letters(canary_id: str, seed: int) -> Canary:
    rng = random.Random(f"{seed}/random_letters/{canary_id}")
    groups = ["".join(rng.choices(string.ascii_lowercase, k=_CODE_LETTERS)) for _ in range(_CODE_GROUPS)]
    prefix = "The code on the back of the box is"
    return Canary(canary_id, "random_letters", f"{prefix} {' '.join(groups)}.", prefix, False, 1)


def make_canary_records(canary: Canary, hosts: Sequence[Record], *, template: RecordTemplate, max_records_per_unit: int, seed: int) -> list[Record]:
    """The records that hold a canary, or would if it had been planted: those of a left-out canary are scored too.

    Guarantee: they depend on this canary, the hosts and the seed, and on no other canary or coin.

    Args:
      canary: In or out. PRIVATE.
      hosts: Records whose prompt, rating, category and product a canary's record borrows; nothing of their title and text. PRIVATE.
      template: Of the run.
      max_records_per_unit: Contribution bound; a canary that is repeated more often is carried by several units.
      seed: Of the choice of hosts.
    Returns:
      list[Record]: `num_repetitions` of them, of units of their own. PRIVATE.
    """
    records: list[Record] = []
    for i in range(canary.num_repetitions):
        identity = f"{canary.canary_id}/{i}"
        host = hosts[int(keyed_fraction(seed, "canary_host", identity) * len(hosts))]
        title = _TITLES[int(keyed_fraction(seed, "canary_title", identity) * len(_TITLES))]
        completion = template.fill_completion(title=title, text=canary.whole)
        unit_id = f"canary-unit-{canary.canary_id}-{i // max_records_per_unit}"
        records.append(replace(host, record_id=f"canary-{canary.canary_id}-{i}", unit_id=unit_id, completion=completion, title=title, text=canary.whole))
    return records


def count_canary_units(canary: Canary, *, max_records_per_unit: int) -> int:
    """Units that carry a canary: the size of the group whose promise an audit of it tests."""
    return -(-canary.num_repetitions // max_records_per_unit)


def plant_canaries(records: Sequence[Record], canaries: Sequence[Canary], *, template: RecordTemplate, max_records_per_unit: int, seed: int) -> list[Record]:
    """The records with those of every canary whose coin fell in. The given ones stay as they are.

    Guarantee: turning one coin adds or removes that canary's units and changes nothing else.

    Args:
      records: The training split. PRIVATE.
      canaries: PRIVATE.
      template, max_records_per_unit, seed: As in `make_canary_records`.
    Returns:
      list[Record]: of the audit arm alone. PRIVATE.
    Raises:
      DataError: there is no record to borrow a prompt from, or canaries stand in the records already.
    """
    if not records:
        raise DataError("canaries: there are no training records to plant them in")
    if any(record.record_id.startswith("canary-") or record.unit_id.startswith("canary-unit-") for record in records):
        raise DataError("canaries: the training records hold canaries already; plant in the records of a run, not of an audit")
    planted = [canary for canary in canaries if canary.is_in]
    made = [make_canary_records(canary, records, template=template, max_records_per_unit=max_records_per_unit, seed=seed) for canary in planted]
    return [*records, *(record for own in made for record in own)]


def write_manifest(path: Path, canaries: Sequence[Canary]) -> None:
    """Writes the canaries with their coins, one JSON object a line. PRIVATE."""
    write_rows(path, (asdict(canary) for canary in canaries))


def read_manifest(path: Path) -> list[Canary]:
    """Reads what `write_manifest` wrote. PRIVATE.

    Raises:
      RunDirError: it is missing or damaged.
    """
    try:
        return [_check_row(Canary(**values)) for values in read_rows(path)]
    except TypeError:
        raise RunDirError(f"{path}: is no manifest of canaries of this version; plant them again") from None


def _check_row(canary: Canary) -> Canary:
    """Raises TypeError unless the fields that decide something have their types."""
    if type(canary.is_in) is not bool or type(canary.num_repetitions) is not int or not isinstance(canary.whole, str):
        raise TypeError
    return canary


def make_original(num_repetitions: int) -> Canary:
    """The original's string as a canary that is planted in so many records."""
    return Canary("original", "original", ORIGINAL_STRING, _prefix_of(CARRIERS[0], ORIGINAL_PARTS), True, num_repetitions, **ORIGINAL_PARTS)
