"""One review: its rating, its length, and which statements stand in which order. Wording depends on rating, product and writer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

from penname.ingest.marketplace.grammar import Grammar, Memory
from penname.ingest.marketplace.products import Fact, Product, read_grammar
from penname.ingest.marketplace.vocabulary import mark_sentence, replace_words
from penname.ingest.marketplace.writers import Writer, apply_style

_RATING_WEIGHTS = {1: 0.125, 2: 0.05, 3: 0.08, 4: 0.145, 5: 0.60}
_PRAISE_PROB = {1: 0.08, 2: 0.24, 3: 0.5, 4: 0.78, 5: 0.95}
"""Chance that a statement praises."""
_LENGTH_MU, _LENGTH_SIGMA, _LENGTH_MAX = 3.24, 1.2, 700
"""Words: log-normal, cut."""
_FACT_PROB = 0.65
"""Chance that a writer who looks for something to say takes a fact of the product."""

_BODY = ("claim",) * 7 + ("contrast", "story", "comp", "use", "fact", "fact", "price", "look", "setup", "aside", "ship", "buy", "minor", "service", "tech")
_LIMITS = {
    "buy": 1,
    "ship": 1,
    "look": 2,
    "setup": 1,
    "price": 1,
    "service": 1,
    "gift": 1,
    "gift_verdict": 2,
    "list": 1,
    "update": 1,
    "open": 1,
    "close": 1,
    "advice": 2,
    "minor": 2,
}
_DEFAULT_LIMIT = 3
_RECIPIENTS = tuple(
    (f"my {name}", they, their)
    for they, their, names in (
        ("she", "her", "wife mom sister daughter niece granddaughter girlfriend mother-in-law aunt grandmother"),
        ("he", "his", "husband dad brother son nephew grandson boyfriend father-in-law uncle grandfather"),
    )
    for name in names.split()
)
_NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen"),
    *("fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")

_JOINTS = (", and ", ", and ", ", also ", "; ", " and ", ", plus ")
_LINK_WORDS = ("plus", "also", "and ", "but ", "oh,")

_SPACES = re.compile(r"\s+")
_BEFORE_STOP = re.compile(r"\s+([.,;:!?])")
_DOUBLED_STOP = re.compile(r"([,;:])(?:\s*[,;:])+|,(?=[.!?])")
_DOUBLED_WORD = re.compile(r"\b(\w+) \1\b", re.IGNORECASE)
_VOWEL = re.compile(r"\b([Aa]) (?=[aeiouAEIOU](?!ne\b|ni|se|sual|SB))")
_CONSONANT = re.compile(r"\b([Aa])n (?=[^aeiouAEIOU\W]|one\b|uni|use)(?!hour|honest|[A-Z]{2})")
_SENTENCE_START = re.compile(r"(^|[.!?] |\n(?:- )?)([a-z])")


@dataclass(slots=True)
class Draft:
    """A review being written."""

    writer: Writer
    product: Product
    rating: int
    rng: Random
    grammar: Grammar
    bound: dict[str, str]
    facts: list[Fact]
    memory: Memory = field(default_factory=Memory)
    told: list[Fact] = field(default_factory=list)
    uses: dict[str, int] = field(default_factory=dict)

    @property
    def tone(self) -> str:
        """Suffix of the rules that fit the rating."""
        return "g" if self.rating >= 4 else "m" if self.rating == 3 else "b"

    def say(self, rule: str, **bound: str) -> str:
        """Expands a rule for this review."""
        return self.grammar.expand(rule, self.rng, {**self.bound, **bound}, self.memory)

    def praise_or_blame(self) -> str:
        """`g` or `b`, as the rating makes likely."""
        return "g" if self.rng.random() < _PRAISE_PROB[self.rating] else "b"


def draw_rating(product: Product, writer: Writer, rng: Random) -> int:
    """Draws a rating, 1 to 5: skewed as in life, shifted by the product's appeal and the writer's leniency."""
    tilt = 0.45 * (product.appeal + writer.leniency)
    weights = [weight * 2.718281828 ** (tilt * (rating - 3)) for rating, weight in _RATING_WEIGHTS.items()]
    return rng.choices(list(_RATING_WEIGHTS), weights)[0]


def write_review(product: Product, writer: Writer, rating: int, rng: Random) -> tuple[str, str]:
    """Writes a review.

    Returns:
      Its title and its text; paragraphs are parted by newlines.
    """
    draft = _start_draft(product, writer, rating, rng)
    target = min(_LENGTH_MAX, max(1, round(rng.lognormvariate(_LENGTH_MU, _LENGTH_SIGMA) * writer.wordiness)))
    if target <= 5:
        sentences = [draft.say(f"tiny_{draft.tone}")]
    elif target <= 13:
        sentences = [_write_one_sentence(draft, target)]
    else:
        sentences = _write_sentences(draft, target)
    protected = [key for fact in draft.told for key in fact.key_words]
    own = [mark_sentence(s, writer.vocabulary, rng) if i else s for i, s in enumerate(sentences)]
    text = _join_sentences([tidy(replace_words(s, writer.vocabulary, rng, protected)) for s in own], writer, rng)
    title = tidy(draft.say("title_g4" if rating == 4 and rng.random() < 0.5 else f"title_{draft.tone}", fact=""))
    return apply_style(_capitalise(title), writer, rating, rng), apply_style(text, writer, rating, rng, protected=protected)


def _start_draft(product: Product, writer: Writer, rating: int, rng: Random) -> Draft:
    who, they, their = rng.choice(_RECIPIENTS)
    whole = max(2, round(product.price))
    spelled = _NUMBER_WORDS[whole] if whole < 20 else _TENS[whole // 10] + (f"-{_NUMBER_WORDS[whole % 10]}" if whole % 10 else "")
    price = rng.choice((f"${product.price:.2f}", f"${whole}", f"{whole} bucks", f"{spelled} dollars", f"around ${whole}", f"under {whole + 1} dollars"))
    device = product.model or writer.phone
    bound = {
        "who": who, "they": they, "their": their, "devword": "watch" if product.kind.fits == "watch" else "phone",
        "brand": product.brand, "color": rng.choice(product.colors), "phone": device, "price": price, "job": writer.job, "pet": writer.pet,
    }  # fmt: skip
    facts = list(product.facts)
    rng.shuffle(facts)
    facts.sort(key=lambda fact: fact.is_good != (rng.random() < _PRAISE_PROB[rating]))
    return Draft(writer, product, rating, rng, read_grammar(product.kind), bound, facts)


def _write_one_sentence(draft: Draft, target: int) -> str:
    """Of three short statements the one nearest to the length asked for."""
    rng = draft.rng
    moves = [rng.choice(("claim", "claim", "open", "close", "price", "advice", "comp", "fact")) for _ in range(3)]
    told_before = len(draft.told)
    drafts = []
    for move in moves:
        sentence = " ".join(_make_move(draft, move))
        drafts.append((abs(len(sentence.split()) - target), sentence, draft.told[told_before:]))
        del draft.told[told_before:]
    _, sentence, told = min(drafts, key=lambda item: item[0])
    draft.told.extend(told)
    return sentence


def _write_sentences(draft: Draft, target: int) -> list[str]:
    sentences: list[str] = []
    num_words = 0
    for move in _plan_moves(draft, target):
        for sentence in _make_move(draft, move):
            length = len(sentence.split())
            if num_words and num_words + length - target > max(3, 0.6 * length):
                return sentences
            sentences.append(sentence)
            num_words += length
        if num_words >= target:
            break
    return sentences


def _plan_moves(draft: Draft, target: int) -> Iterator[str]:
    """The writer's plan, thinned for a short review and filled up for a long one."""
    rng = draft.rng
    plan = list(rng.choice(draft.writer.plans))
    if rng.random() < 0.3:
        head = plan[:-1]
        rng.shuffle(head)
        plan[:-1] = head
    num_moves = max(1, round(target / 13))
    if num_moves < len(plan):
        keep = sorted(rng.sample(range(len(plan)), num_moves))
        plan = [plan[i] for i in keep]
    yield from plan[:-1]
    for _ in range(num_moves - len(plan)):
        move = rng.choice(_BODY)
        if move == "tech" and not draft.writer.is_technical and rng.random() < 0.7:
            move = "claim"
        yield move
    yield plan[-1]
    while True:
        yield "claim"


def _make_move(draft: Draft, move: str) -> list[str]:
    """The sentences of one move; a move that is used up becomes a plain statement."""
    rng, tone = draft.rng, draft.tone
    draft.uses[move] = draft.uses.get(move, 0) + 1
    if move != "claim" and draft.uses[move] > _LIMITS.get(move, _DEFAULT_LIMIT):
        move = "claim"
    polarity = draft.praise_or_blame()
    if move == "fact" or (move == "claim" and rng.random() < 0.18):
        return [_tell_fact(draft)]
    if move == "list":
        return [_write_list(draft)]
    if move in ("open", "close", "advice", "update"):
        rule = {"update": "update"}.get(move, f"{move}_{tone}")
        return [draft.say(rule, upd=draft.say(f"upd_{tone}")) if move == "update" else draft.say(rule)]
    if move == "price":
        return [draft.say(f"price_{tone}")]
    if move == "comp":
        return [draft.say(f"comp_{tone}")]
    if move == "minor":
        return [draft.say({"g": "minor_b", "m": "contrast", "b": "minor_g"}[tone])]
    if move == "gift":
        return [draft.say("forwho")]
    if move == "gift_verdict":
        verdict = draft.say(f"wholike_{polarity}")
        return [verdict] if draft.uses.get("gift") else [draft.say("forwho"), verdict]
    if move in ("story", "setup", "service"):
        return [draft.say(f"{move}_{polarity}")]
    if move == "ship":
        return [draft.say("ship_b" if rng.random() < (0.06 if tone == "g" else 0.45) else "ship_g")]
    if move == "use":
        return [draft.say("useit")]
    if move in ("buy", "look", "aside", "tech", "contrast"):
        return [draft.say(move)]
    if tone == "m" and rng.random() < 0.45:
        return [draft.say("contrast")]
    return [draft.say(f"claim_{polarity}")]


def _tell_fact(draft: Draft) -> str:
    """A fact of the product that is not told yet, framed as the rating demands; a plain statement when none is left."""
    if not draft.facts or draft.rng.random() > _FACT_PROB:
        return draft.say(f"claim_{draft.praise_or_blame()}")
    fact = draft.facts.pop(0)
    wording = fact.word(draft.rng)
    draft.told.append(fact)
    if fact.is_good:
        return draft.say("fact_but" if draft.tone == "b" else "fact_g", fact=wording)
    return draft.say("fact_b" if draft.rating <= 3 else "fact_concede", fact=wording)


def _write_list(draft: Draft) -> str:
    """Pros and cons in one of the ways people write them."""
    num_pros = {"g": draft.rng.randint(2, 4), "m": 2, "b": draft.rng.randint(0, 1)}[draft.tone]
    num_cons = {"g": draft.rng.randint(0, 2), "m": 2, "b": draft.rng.randint(2, 4)}[draft.tone]
    parts = []
    for names, rule, count in ((("Pros", "Good", "Likes", "What I like"), "pro", num_pros), (("Cons", "Bad", "Dislikes", "What I do not"), "con", num_cons)):
        items = list(dict.fromkeys(draft.say(rule) for _ in range(count)))
        if items and draft.writer.is_technical:
            parts.append(f"{draft.rng.choice(names)}:" + "".join(f"\n- {item}" for item in items))
        elif items:
            parts.append(f"{draft.rng.choice(names)}: " + ", ".join(items) + ".")
    return ("\n" if draft.writer.is_technical else " ").join(parts)


def tidy(text: str) -> str:
    """Repairs what a grammar leaves: spaces, stops, a/an, doubled words. Newlines stay.

    >>> tidy("it is a  excellent excellent case , really")
    'it is an excellent case, really'
    """
    lines = [_SPACES.sub(" ", line).strip() for line in text.split("\n")]
    text = _BEFORE_STOP.sub(r"\1", "\n".join(lines)).strip(" ,;")
    text = _DOUBLED_STOP.sub(lambda match: match.group(1) or "", text)
    text = _DOUBLED_WORD.sub(r"\1", text)
    return _CONSONANT.sub(r"\1 ", _VOWEL.sub(r"\1n ", text))


def _join_sentences(sentences: list[str], writer: Writer, rng: Random) -> str:
    """Sentences become text, run together or parted as the writer does; a list stands on lines of its own."""
    out, num_words = "", 0
    for sentence in filter(None, sentences):
        joint = ""
        if "\n" in sentence or "\n- " in out[out.rfind("\n") :]:
            out += "\n"
        elif out:
            can_join = sentence[0].islower() and out.endswith(".") and ":" not in sentence[:40] and not sentence.startswith(_LINK_WORDS)
            if can_join and rng.random() < writer.joins:
                joint = rng.choice(_JOINTS)
            elif num_words > 70 and rng.random() < 0.35:
                joint, num_words = "\n\n", 0
            else:
                joint = " "
        out = (out[:-1] if joint in _JOINTS else out) + joint + (sentence if joint in _JOINTS else _capitalise(sentence))
        num_words += len(sentence.split())
        if sentence[-1] not in ".!?)" and "\n- " not in sentence:
            out += "!" * rng.choice((1, 1, 2, 3)) if rng.random() < writer.exclaims else "."
    return re.sub(r" ?\n ?", "\n", out).strip()


def _capitalise(text: str) -> str:
    return _SENTENCE_START.sub(lambda match: match.group(1) + match.group(2).upper(), text)


def find_facts(text: str, facts: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The ids of the facts that a text carries: all key words occur in it, whatever the case.

    >>> find_facts("Mine turned YELLOW in a week", {"yellows": ("yellow",), "hums": ("hum", "bee")})
    ['yellows']
    """
    lowered = text.lower()
    return [fact_id for fact_id, keys in facts.items() if all(key.lower() in lowered for key in keys)]
