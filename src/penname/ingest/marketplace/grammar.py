"""A context-free grammar in text files, expanded at random.

A file holds rules: `== name` opens one (`== name @kind` adds to it for one kind of product), each line below is an alternative.
`{name}` expands a rule or a value bound for this review, `[a|b|]` chooses one of its parts, which may be empty and may nest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from random import Random


@dataclass(frozen=True, slots=True)
class Reference:
    """A place where another rule, or a bound value, is expanded."""

    name: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A place where one of several sequences is taken."""

    options: tuple[tuple[Part, ...], ...]


Part = str | Reference | Choice
Sequence = tuple[Part, ...]
Rules = dict[str, tuple[Sequence, ...]]

_TOKEN = re.compile(r"[\[\]|]|\{\w+\}|[^\[\]|{}]+")

# A review must not praise and blame the same thing. Two statements are about the same thing when they share one of these stems.
_TOPICS = tuple(
    re.compile(r"\b(?:" + stems + ")")
    for stems in (
        "button|volume key|control",
        "corner",
        "cutout|opening|port",
        "grip|slip|slides",
        "bulk|thick|heav|light\\b|weigh",
        "lint|dust",
        "color|paint|coating|finish|yellow|fade",
        "wireless charging",
        "surviv|cracked|one drop|snap|fell off",
        "fit|too small|too short|too long|snug|loose|tight",
        "hot|cool|warm",
        "percent|hour|fills|slow|fast",
        "hum|buzz|click",
        "dim|bright|light ",
        "plug|prong|connector",
        "wake up|woke up",
        "outlet|room",
        "bubble|on the first try|put it on|frame|guide",
        "touch|tap",
        "scratch|mark",
        "lift|peel|corner",
        "fingerprint|smudge",
        "face unlock|camera",
        "wipes",
        "bass|low end|lows",
        "voices|guitars|narrators|sound",
        "battery",
        "pair|connect",
        "stays|stayed|falls out|slips|put\\b",
        "caller",
        "hurt|pinch|itch|rash|comfortable",
        "hiss|delay|lag",
        "sag|droop|joint|hinge|arm",
        "wobbl|shak|move",
        "suction|base|stuck|sticks|glue",
        "one hand|two hands",
        "cable",
        "edge",
        "holds its charge|loses|lost",
        "display|gauge",
        "security|airline",
        "clasp|buckle|pin",
        "dry|dries",
        "stretch",
        "smell",
        "second one|in the pack",
        "see it|tell it is there|face",
    )
)
_OPPOSITE = {"g": "b", "b": "g"}


@dataclass(slots=True)
class Memory:
    """What one review has said already."""

    used: dict[str, set[int]] = field(default_factory=dict)
    """Rule -> alternatives taken."""
    topics: dict[str, set[int]] = field(default_factory=lambda: {"g": set(), "b": set()})
    """Statement rule (g: praise, b: blame) -> topics touched."""


def read_phrases(name: str) -> str:
    """The text of one file of phrases that comes with the package."""
    return resources.files("penname.ingest.marketplace").joinpath("phrases", name).read_text(encoding="utf-8")


@cache
def read_lists(name: str) -> dict[str, list[str]]:
    """The lists of one file that comes with the package."""
    lists: dict[str, list[str]] = {}
    for block in read_phrases(name).split("\n== ")[1:]:
        head, *lines = block.strip().splitlines()
        lists[head] = "|".join(lines).split("|")
    return lists


def parse_sequence(text: str) -> Sequence:
    """One alternative, parsed.

    Raises:
      ValueError: brackets do not match.

    >>> parse_sequence("a [b|] {c}")
    ('a ', Choice(options=(('b',), ())), ' ', Reference(name='c'))
    """
    stack: list[list[list[Part]]] = [[[]]]
    if "".join(_TOKEN.findall(text)) != text:
        raise ValueError(f"brackets do not match: {text!r}")
    for mark in _TOKEN.findall(text):
        if mark == "[":
            stack.append([[]])
        elif mark == "]" and len(stack) > 1:
            options = stack.pop()
            stack[-1][-1].append(Choice(tuple(tuple(option) for option in options)))
        elif mark == "|" and len(stack) > 1:
            stack[-1].append([])
        elif mark in "]|":
            raise ValueError(f"brackets do not match: {text!r}")
        else:
            stack[-1][-1].append(Reference(mark[1:-1]) if mark[0] == "{" else mark)
    if len(stack) != 1:
        raise ValueError(f"brackets do not match: {text!r}")
    return tuple(stack[0][0])


def parse_rules(text: str, *, kind: str = "") -> Rules:
    """The rules of a file: those for every kind of product, and those for `kind`."""
    rules: dict[str, list[Sequence]] = {}
    target: list[Sequence] | None = None
    for line in map(str.strip, text.splitlines()):
        if line.startswith("== "):
            name, _, only_kind = (part.strip() for part in line[3:].partition("@"))
            target = rules.setdefault(name, []) if only_kind in ("", kind) else None
        elif line and not line.startswith("#") and target is not None:
            target.append(parse_sequence(line))
    return {name: tuple(alternatives) for name, alternatives in rules.items()}


def literal_text(sequence: Sequence) -> str:
    """The words of a sequence, all choices one after the other, references left out."""
    words = []
    for part in sequence:
        if isinstance(part, str):
            words.append(part)
        elif isinstance(part, Choice):
            words.append(" ".join(literal_text(option) for option in part.options))
    return " ".join(words)


def find_topics(text: str) -> frozenset[int]:
    """What a statement is about: indices into the list of topics."""
    return frozenset(i for i, topic in enumerate(_TOPICS) if topic.search(text))


def find_references(sequence: Sequence) -> Iterable[str]:
    """The names that a sequence refers to."""
    for part in sequence:
        if isinstance(part, Reference):
            yield part.name
        elif isinstance(part, Choice):
            for option in part.options:
                yield from find_references(option)


class Grammar:
    """Rules that expand to text.

    >>> Grammar({"greeting": (parse_sequence("hello {name}"),)}).expand("greeting", Random(1), {"name": "world"}, Memory())
    'hello world'
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._topics = {name: [find_topics(literal_text(sequence)) for sequence in rules.get(name, ())] for name in _OPPOSITE}

    def expand(self, name: str, rng: Random, bound: Mapping[str, str], memory: Memory) -> str:
        """Expands a rule; an alternative is not taken twice in one review while another is left.

        Raises:
          KeyError: the rule, or one that it refers to, does not exist.
        """
        out: list[str] = []
        self._expand_rule(name, rng, bound, memory, out)
        return "".join(out)

    def _expand_rule(self, name: str, rng: Random, bound: Mapping[str, str], memory: Memory, out: list[str]) -> None:
        value = bound.get(name)
        if value is not None:
            out.append(value)
            return
        alternatives = self.rules[name]
        chosen = self._choose(name, len(alternatives), rng, memory)
        self._expand_sequence(alternatives[chosen], rng, bound, memory, out)

    def _expand_sequence(self, sequence: Sequence, rng: Random, bound: Mapping[str, str], memory: Memory, out: list[str]) -> None:
        for part in sequence:
            if isinstance(part, str):
                out.append(part)
            elif isinstance(part, Reference):
                self._expand_rule(part.name, rng, bound, memory, out)
            else:
                self._expand_sequence(part.options[int(rng.random() * len(part.options))], rng, bound, memory, out)

    def _choose(self, name: str, count: int, rng: Random, memory: Memory) -> int:
        used = memory.used.setdefault(name, set())
        if len(used) >= count:
            used.clear()
        chosen = 0
        for _ in range(12):  # then anything is better than nothing
            chosen = int(rng.random() * count)
            if chosen not in used and not self._contradicts(name, chosen, memory):
                break
        used.add(chosen)
        if name in _OPPOSITE:
            memory.topics[name] |= self._topics[name][chosen]
        return chosen

    def _contradicts(self, name: str, chosen: int, memory: Memory) -> bool:
        return name in _OPPOSITE and bool(self._topics[name][chosen] & memory.topics[_OPPOSITE[name]])
