"""Invented products: names, prices, categories, and facts that no model can know. The catalogue is public and depends on no review."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from penname.ingest.marketplace.grammar import Grammar, Memory, Rules, parse_rules, parse_sequence, read_lists, read_phrases

ROOT_CATEGORY = "Cell Phones & Accessories"
NO_CATEGORY_FRAC = 0.006
"""Share of products whose metadata has no category path."""
NO_TITLE_FRAC = 0.006
"""Share of products whose metadata has no title."""
NO_PRICE_FRAC = 0.35
"""Share of products whose price is unknown, as in the real metadata."""

_NAMES = read_lists("names.txt")
PHONES, WATCHES = _NAMES["phones"], _NAMES["watches"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of product: where it stands in the catalogue and what people call it."""

    name: str
    phrases: str
    category: str
    leaf: str
    nouns: tuple[str, ...]
    title_nouns: tuple[str, ...]
    features: tuple[str, ...]
    prices: tuple[float, float]
    fits: str = ""
    """`phone` or `watch` where the product is made for one model."""


def _read_kinds() -> tuple[Kind, ...]:
    kinds = []
    for block in read_phrases("kinds.txt").split("\n== ")[1:]:
        head, *lines = block.strip().splitlines()
        name, phrases = head.split()
        fields = dict(line.split(": ", 1) for line in lines)
        category, leaf = fields["path"].split(" > ")
        nouns, titles, features = (tuple(fields[key].split("|")) for key in ("nouns", "titles", "features"))
        low, high = map(float, fields["prices"].split("|"))
        kinds.append(Kind(name, phrases, category, leaf, nouns, titles, features, (low, high), fields.get("fits", "")))
    return tuple(kinds)


KINDS = _read_kinds()
"""In this order, so that the first seven cover every category however few products there are."""


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that is true of one invented product only."""

    fact_id: str
    sentence: str
    key_words: tuple[str, ...]
    """A text carries the fact when it contains all of these, whatever the case."""
    is_good: bool
    grammar: Grammar
    bound: dict[str, str]

    def word(self, rng: Random) -> str:
        """One wording of the fact: a clause in lower case."""
        return self.grammar.expand("wording", rng, self.bound, Memory())


@dataclass(frozen=True, slots=True)
class Product:
    """An invented product."""

    parent_asin: str
    variants: tuple[str, ...]
    kind: Kind
    brand: str
    title: str
    colors: tuple[str, ...]
    model: str
    price: float
    facts: tuple[Fact, ...]
    appeal: float
    """Mean shift of its ratings: above 0 is better than most."""


@dataclass(frozen=True, slots=True)
class _FactTemplate:
    fact_id: str
    is_good: bool
    phrases: tuple[str, ...]
    lists: dict[str, list[str]]
    keys: str
    sentence: str
    rules: Rules


@cache
def read_fact_templates() -> tuple[_FactTemplate, ...]:
    """The templates of `phrases/facts.txt`."""
    templates = []
    for block in read_phrases("facts.txt").split("\n== ")[1:]:
        head, *lines = block.strip().splitlines()
        fact_id, polarity, where = head.split()
        fields = dict(line.split(": ", 1) for line in lines if not line.startswith("- "))
        wordings = tuple(parse_sequence(line[2:].strip()) for line in lines if line.startswith("- "))
        lists = {name: fields[name].split("|") for name in ("p", "q") if name in fields}
        templates.append(_FactTemplate(fact_id, polarity == "good", tuple(where.split("|")), lists, fields["keys"], fields["says"], {"wording": wordings}))
    return tuple(templates)


def make_asin(seed: int, *parts: object) -> str:
    """A product id in Amazon's form, `B0` and eight characters."""
    digest = hashlib.sha256("/".join(map(str, (seed, *parts))).encode()).digest()
    return "B0" + base64.b32encode(digest)[:8].decode()


def count_products(num_reviews: int) -> int:
    """How many products a marketplace of this size lists: about 60 at 1,000 reviews, 150 at 6,000, 2,000 at a million."""
    return max(14, round(60 * (num_reviews / 1000) ** 0.51))


def make_products(seed: int, count: int, *, group: str) -> list[Product]:
    """Invents products; `group` keeps the listed ones apart from those that the metadata lacks."""
    return [_make_product(Random(f"{seed}/{group}/{i}"), make_asin(seed, group, i), KINDS[i % len(KINDS)]) for i in range(count)]


def _make_product(rng: Random, parent_asin: str, kind: Kind) -> Product:
    brand = rng.choice(_NAMES["brands"]).replace("&", " & ")
    line = rng.choice(_NAMES["lines"]) + rng.choice(("", "", "", " 2", " Pro", " Mini", " XL", " Neo", " II"))
    colors = tuple(rng.sample(_NAMES["colors"], rng.randint(1, 4)))
    model = {"phone": PHONES, "watch": WATCHES, "": [""]}[kind.fits]
    fitted = rng.choice(model)
    facts = _draw_facts(rng, kind)
    low, high = kind.prices
    price = round(low + (high - low) * rng.random() ** 1.7) - rng.choice((0.01, 0.01, 0.05, 0.5))
    appeal = 0.18 * sum(1 if f.is_good else -1 for f in facts) + rng.gauss(0, 0.2)
    title = " ".join(filter(None, (brand, line, rng.choice(kind.title_nouns), f"for {fitted}" if fitted else "")))
    extras = ", ".join(rng.sample(kind.features, rng.randint(1, min(3, len(kind.features)))))
    title = f"{title}, {extras}, {colors[0].title()}" if rng.random() < 0.7 else f"{title} ({colors[0].title()}) - {extras}"
    variants = tuple("B0" + parent_asin[-8 + i :] + parent_asin[2 : 2 + i] for i in range(len(colors)))
    return Product(parent_asin, variants, kind, brand, title, colors, fitted, round(price, 2), facts, appeal)


def _draw_facts(rng: Random, kind: Kind) -> tuple[Fact, ...]:
    fitting = [t for t in read_fact_templates() if "any" in t.phrases or kind.phrases in t.phrases]
    own = [t for t in fitting if "any" not in t.phrases]
    count = rng.randint(2, 4)
    drawn = rng.sample(own, min(len(own), rng.randint(1, count)))
    drawn += rng.sample([t for t in fitting if t not in drawn], count - len(drawn))
    rng.shuffle(drawn)
    return tuple(_fill_fact(rng, template) for template in drawn)


def _fill_fact(rng: Random, template: _FactTemplate) -> Fact:
    bound = {name: rng.choice(values) for name, values in template.lists.items()}
    sentence = template.sentence.format(**bound)
    keys = tuple(key.strip().format(**bound) for key in template.keys.split(","))
    return Fact(template.fact_id, sentence[0].upper() + sentence[1:] + ".", keys, template.is_good, Grammar(template.rules), bound)


def describe_facts(products: list[Product]) -> dict[str, list[dict[str, Any]]]:
    """The facts as `facts.json` keeps them: product id -> facts."""
    return {
        p.parent_asin: [{"id": f.fact_id, "sentence": f.sentence, "key_words": list(f.key_words), "polarity": "good" if f.is_good else "bad"} for f in p.facts]
        for p in products
    }


def rank_by_popularity(products: list[Product], seed: int) -> list[Product]:
    """The products, most reviewed first: an order of their own, so that no category leads."""
    return Random(f"{seed}/popularity").sample(products, len(products))


def write_metadata(products: list[Product], seed: int) -> Iterator[dict[str, Any]]:
    """Yields one row of the Amazon Reviews 2023 metadata a product; a few that are seldom bought lack their category or their title."""
    num_bare, num_untitled = round(NO_CATEGORY_FRAC * len(products)), round(NO_TITLE_FRAC * len(products))
    unpopular = rank_by_popularity(products, seed)[len(products) // 2 :]
    damaged = [product.parent_asin for product in unpopular[: num_bare + num_untitled]]
    for product in products:
        row = _metadata_row(product, Random(f"{seed}/metadata/{product.parent_asin}"))
        if product.parent_asin in damaged[:num_bare]:
            row["categories"] = []
        elif product.parent_asin in damaged:
            row["title"] = ""
        yield row


def _metadata_row(product: Product, rng: Random) -> dict[str, Any]:
    kind, fit = product.kind, product.model or "most phones"
    features = rng.sample(kind.features, min(len(kind.features), rng.randint(2, 5)))
    bullets = [f"{name.upper()}: made for {fit}, {rng.choice(product.colors)} finish, by {product.brand}." for name in features]
    details = {"Brand": product.brand, "Color": product.colors[0].title(), "Compatible Devices": fit, "Item Weight": f"{rng.uniform(0.5, 11):.1f} ounces"}
    if rng.random() < 0.6:
        details["Date First Available"] = f"{rng.choice(('January', 'March', 'May', 'August', 'November'))} {rng.randint(1, 28)}, {rng.randint(2014, 2022)}"
    images = [_metadata_image(asin, i, rng) for i, asin in enumerate(product.variants)]
    video = {"title": f"{product.brand} in use", "url": f"https://marketplace.example/vdp/{product.parent_asin}", "user_id": ""}
    return {
        "main_category": ROOT_CATEGORY,
        "title": product.title,
        "average_rating": round(min(4.9, max(1.6, 4.05 + 0.5 * product.appeal + rng.gauss(0, 0.15))), 1),
        "rating_number": int(rng.lognormvariate(3.2, 1.5)) + 1,
        "features": bullets,
        "description": [f"The {product.title} is made for everyday use. {rng.choice(features)}."] if rng.random() < 0.6 else [],
        "price": None if rng.random() < NO_PRICE_FRAC else product.price,
        "images": images,
        "videos": [video] if rng.random() < 0.15 else [],
        "store": product.brand,
        "categories": [ROOT_CATEGORY, kind.category, kind.leaf],
        "details": details,
        "parent_asin": product.parent_asin,
        "bought_together": None,
    }


def _metadata_image(asin: str, index: int, rng: Random) -> dict[str, str | None]:
    stem = f"https://images.marketplace.example/I/{asin}"
    large = f"{stem}._AC_.jpg"
    return {
        "thumb": f"{stem}._AC_US40_.jpg",
        "large": large,
        "variant": "MAIN" if index == 0 else f"PT{index:02d}",
        "hi_res": f"{stem}._AC_SL1500_.jpg" if rng.random() < 0.8 else None,
    }


@cache
def read_grammar(kind: Kind) -> Grammar:
    """Everything that can be said about a kind of product."""
    rules: dict[str, Any] = {}
    for source in (read_phrases("common.txt"), read_phrases(f"{kind.phrases}.txt")):
        for name, alternatives in parse_rules(source, kind=kind.name).items():
            rules[name] = rules.get(name, ()) + alternatives
    rules["n"] = tuple(parse_sequence(noun) for noun in kind.nouns)
    rules["a_n"] = tuple(parse_sequence(f"a {noun}") for noun in kind.nouns)
    these = (
        "this {n}",
        "this {n}",
        "the {brand} {n}",
        "this {brand} {n}",
        "the {color} {n}",
        "the {color} {brand} {n}",
        "my {color} {n}",
        "one {n} in {color}",
        "this little {n}",
    )
    rules["this"] = tuple(parse_sequence(text) for text in these)
    return Grammar(rules)
