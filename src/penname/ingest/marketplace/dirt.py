"""What is wrong with real data, at small known rates. Each rate is a share of all reviews unless it says otherwise."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

from penname.ingest.marketplace.composition import tidy
from penname.ingest.marketplace.grammar import Grammar, Memory, parse_rules, read_phrases
from penname.ingest.marketplace.products import Kind

EMPTY_TEXT_FRAC = 0.005
"""Text is empty or only spaces."""
ORPHAN_FRAC = 0.01
"""parent_asin is not in the metadata."""
EXACT_DUPLICATE_FRAC = 0.006
"""The same user posts the same text on the same product again."""
NEAR_DUPLICATE_FRAC = 0.007
"""The same user posts it again with a few words changed."""
OTHER_LANGUAGE_FRAC = 0.012
"""Spanish, German, French or Portuguese."""
PERSONAL_DATA_FRAC = 0.01
"""A sentence with an invented name, street, phone number, email address or order id."""
ENTITY_FRAC = 0.02
"""Apostrophes, quotes or ampersands are HTML entities; of those texts only that have one."""
BREAK_TAG_FRAC = 0.03
"""`<br />` between two sentences, where there are two."""
PARAGRAPH_TAG_FRAC = 0.6
"""Share of the texts with paragraphs whose paragraphs are parted by `<br /><br />`; newlines in the others."""
EMOJI_FRAC = 0.015
"""Emoji, beside those of writers who use them often."""

_LANGUAGES = ("es", "es", "es", "de", "fr", "pt")
_PRODUCT_NAMES = {
    "cases": ("la funda", "das Etui", "la coque", "a capinha"),
    "chargers": ("el cargador", "das Ladegerät", "le chargeur", "o carregador"),
    "screen_protectors": ("el protector de pantalla", "das Schutzglas", "la protection d'écran", "a película"),
    "headsets": ("los auriculares", "das Headset", "les écouteurs", "os fones"),
    "mounts": ("el soporte", "das Stativ", "le support", "o suporte"),
    "power_banks": ("la batería externa", "das Akkupack", "la batterie externe", "a bateria portátil"),
    "watch_bands": ("la correa", "das Armband", "le bracelet", "a pulseira"),
}
_TITLES = {
    "es": (("Muy bien", "Recomendado", "Excelente", "Me encanta", "Buena compra"), ("No funciona", "Mala calidad", "No comprar", "Decepción")),
    "de": (("Super", "Sehr gut", "Top", "Gerne wieder", "Klare Empfehlung"), ("Schlecht", "Finger weg", "Enttäuscht", "Nie wieder")),
    "fr": (("Très bien", "Parfait", "Je recommande", "Super"), ("Déçue", "Mauvaise qualité", "À éviter")),
    "pt": (("Muito bom", "Adorei", "Recomendo", "Ótimo"), ("Não recomendo", "Péssimo", "Não comprem")),
}
_SYNONYMS = {
    "great": "good", "good": "great", "love": "like", "bought": "ordered", "ordered": "bought", "very": "really", "really": "very", "so": "very",
    "nice": "lovely", "bad": "poor", "after": "within", "months": "weeks", "weeks": "days", "but": "though", "because": "since", "the": "this",
    "my": "our", "works": "worked", "is": "was",
}  # fmt: skip
_ENTITIES = {"'": "&#39;", '"': "&quot;", " and ": " &amp; ", "&": "&amp;"}


@cache
def _read_grammar(name: str) -> Grammar:
    return Grammar(parse_rules(read_phrases(name)))


def write_in_other_language(kind: Kind, rating: int, rng: Random) -> tuple[str, str]:
    """A short review in Spanish, German, French or Portuguese: title and text."""
    language = rng.choice(_LANGUAGES)
    names = dict(zip(("es", "de", "fr", "pt"), _PRODUCT_NAMES[kind.phrases], strict=True))
    grammar, memory = _read_grammar("other_languages.txt"), Memory()
    rule = f"{language}_{'g' if rating > 3 or (rating == 3 and rng.random() < 0.5) else 'b'}"
    sentences = [tidy(grammar.expand(rule, rng, {"np": names[language]}, memory)) for _ in range(rng.choice((1, 2, 2, 3, 4)))]
    text = " ".join(s[0].upper() + s[1:] + rng.choice(".....!") for s in sentences)
    return rng.choice(_TITLES[language][0 if rule.endswith("g") else 1]), text


def write_personal_data(faker: Any, rng: Random) -> str:
    """A sentence with invented personal data, as people leave it in reviews. `faker` is a seeded `faker.Faker`."""
    order_id = f"{rng.randint(100, 119)}-{rng.randint(0, 9999999):07d}-{rng.randint(0, 9999999):07d}"
    bound = {
        "name": faker.name(),
        "street": faker.street_address(),
        "phone_number": faker.numerify(rng.choice(("###-555-01##", "(###) 555-01##", "###.555.01##"))),
        "email": faker.email(),
        "order_id": order_id,
    }
    sentence = _read_grammar("personal_data.txt").expand("pii", rng, bound, Memory())
    return sentence[0].upper() + sentence[1:]


def insert_sentence(text: str, sentence: str, rng: Random) -> str:
    """Puts a sentence before, within or behind a text."""
    stops = [i + 1 for i in range(len(text) - 1) if text[i] in ".!?" and text[i + 1] == " "]
    place = rng.choice([0, len(text), *stops])
    return " ".join(filter(None, (text[:place].strip(), sentence, text[place:].strip())))


def change_few_words(text: str, rng: Random) -> str:
    """A near duplicate: one to three words replaced, or a word added; never the same text."""
    words = text.split(" ")
    places = [i for i, word in enumerate(words) if word in _SYNONYMS]
    for i in rng.sample(places, min(len(places), rng.randint(1, 3))):
        words[i] = _SYNONYMS[words[i]]
    changed = " ".join(words)
    return changed if changed != text else f"{text} {rng.choice(('Thanks', 'Update: same', 'Again', 'That is all'))}"


def add_markup(text: str, rng: Random) -> str:
    """Paragraphs become `<br />`, some texts get entities, a tag or an emoji."""
    if "\n" in text and rng.random() < PARAGRAPH_TAG_FRAC:
        text = text.replace("\n", "<br />")
    if ". " in text and rng.random() < BREAK_TAG_FRAC:
        stops = [i for i in range(len(text)) if text.startswith(". ", i)]
        i = rng.choice(stops)
        text = text[: i + 1] + rng.choice(("<br />", "<br /><br />", " <br />")) + text[i + 2 :]
    found = [(plain, entity) for plain, entity in _ENTITIES.items() if plain in text]
    if found and rng.random() < ENTITY_FRAC:
        text = text.replace(*rng.choice(found))
    if rng.random() < EMOJI_FRAC:
        text += " " + rng.choice(("👍", "🙂", "😀", "👌", "🤷", "✅", "💯", "🎁"))
    return text
