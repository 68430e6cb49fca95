"""The fictional marketplace: layout, determinism, rates, and that its texts are about its facts."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import mean, median

import pytest

from penname.errors import RunDirError, UsageError
from penname.ingest.marketplace import dirt
from penname.ingest.marketplace.composition import find_facts, tidy
from penname.ingest.marketplace.grammar import Grammar, Memory, find_references, parse_rules, parse_sequence
from penname.ingest.marketplace.products import KINDS, count_products, make_products, read_fact_templates, read_grammar
from penname.ingest.sample_data import FACTS_FILE, METADATA_FILE, REVIEWS_FILE, iterate_reviews, write_sample_data

NUM_REVIEWS = 4000
BOUND = {"who", "they", "their", "devword", "brand", "color", "phone", "price", "job", "pet", "fact", "upd"}
REVIEW_TYPES = {
    "rating": float, "title": str, "text": str, "images": list, "asin": str, "parent_asin": str, "user_id": str, "timestamp": int,
    "helpful_vote": int, "verified_purchase": bool,
}  # fmt: skip
PRODUCT_TYPES = {
    "main_category": str, "title": str, "average_rating": float, "rating_number": int, "features": list, "description": list,
    "price": (float, type(None)), "images": list, "videos": list, "store": str, "categories": list, "details": dict, "parent_asin": str,
    "bought_together": type(None),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("marketplace")
    write_sample_data(path, num_reviews=NUM_REVIEWS, seed=5)
    return path


@pytest.fixture(scope="module")
def reviews(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / REVIEWS_FILE).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def products(folder: Path) -> dict[str, dict]:
    rows = [json.loads(line) for line in (folder / METADATA_FILE).read_text(encoding="utf-8").splitlines()]
    return {row["parent_asin"]: row for row in rows}


@pytest.fixture(scope="module")
def facts(folder: Path) -> dict[str, list[dict]]:
    return json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))["products"]


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_sample_data(tmp_path / name, num_reviews=150, seed=seed)
    for file in (REVIEWS_FILE, METADATA_FILE, FACTS_FILE):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
        assert (tmp_path / "a" / file).read_bytes() != (tmp_path / "c" / file).read_bytes()


def test_every_review_has_the_fields_and_types_of_the_layout(reviews: list[dict]) -> None:
    assert len(reviews) == NUM_REVIEWS
    for row in reviews:
        assert list(row) == list(REVIEW_TYPES)
        assert all(type(row[name]) is kind for name, kind in REVIEW_TYPES.items())
        assert row["rating"] in (1.0, 2.0, 3.0, 4.0, 5.0)
        assert re.fullmatch(r"AE[A-Z2-7]{26}", row["user_id"])
        assert re.fullmatch(r"B0[A-Z0-9]{8}", row["asin"])
        assert 1_300_000_000_000 < row["timestamp"] < 1_700_000_000_000
        assert row["title"]
        for image in row["images"]:
            assert list(image) == ["small_image_url", "medium_image_url", "large_image_url", "attachment_type"]
    assert any(row["images"] for row in reviews)


def test_every_product_has_the_fields_and_types_of_the_layout(products: dict[str, dict]) -> None:
    assert len(products) == count_products(NUM_REVIEWS)
    for row in products.values():
        assert list(row) == list(PRODUCT_TYPES)
        assert all(isinstance(row[name], kind) for name, kind in PRODUCT_TYPES.items())
        assert all(set(image) == {"thumb", "large", "variant", "hi_res"} for image in row["images"])
        assert row["categories"] == [] or (len(row["categories"]) == 3 and row["categories"][0] == "Cell Phones & Accessories")
    assert 6 <= len({row["categories"][1] for row in products.values() if row["categories"]}) <= 8


@pytest.mark.parametrize(("num_reviews", "low", "high"), [(1, 7, 20), (1000, 50, 70), (6000, 130, 170), (1_000_000, 1000, 4000)])
def test_products_grow_slowly(num_reviews: int, low: int, high: int) -> None:
    assert low <= count_products(num_reviews) <= high


def test_ratings_and_lengths_are_those_of_life(reviews: list[dict]) -> None:
    share = {rating: count / len(reviews) for rating, count in Counter(row["rating"] for row in reviews).items()}
    assert 0.54 < share[5.0] < 0.66
    assert 0.10 < share[1.0] < 0.16
    assert share[2.0] < share[1.0] < share[5.0]
    lengths = [len(row["text"].split()) for row in reviews if row["text"].strip()]
    assert 24 <= median(lengths) <= 33
    assert 50 <= mean(lengths) <= 68
    assert 0.002 < sum(n > 400 for n in lengths) / len(lengths) < 0.03


def test_users_have_one_to_forty_reviews_and_most_have_one_or_two(reviews: list[dict]) -> None:
    counts = Counter(row["user_id"] for row in reviews)
    assert max(counts.values()) <= 40
    assert max(counts.values()) >= 10
    assert sum(n <= 2 for n in counts.values()) / len(counts) > 0.7


def test_dirt_comes_at_its_rates(reviews: list[dict], products: dict[str, dict]) -> None:
    def share(condition: Callable[[dict], object]) -> float:
        return sum(bool(condition(row)) for row in reviews) / len(reviews)

    copies = Counter((row["user_id"], row["parent_asin"], row["text"]) for row in reviews if row["text"].strip())
    pairs = Counter((row["user_id"], row["parent_asin"]) for row in reviews)
    exact = sum(n - 1 for n in copies.values()) / len(reviews)
    usable = {asin for asin, row in products.items() if row["title"] and row["categories"]}
    assert 0.3 * dirt.EMPTY_TEXT_FRAC < share(lambda r: not r["text"].strip()) < 2 * dirt.EMPTY_TEXT_FRAC
    assert 0.5 * dirt.ORPHAN_FRAC < share(lambda r: r["parent_asin"] not in products) < 2 * dirt.ORPHAN_FRAC
    assert 0.5 * dirt.EXACT_DUPLICATE_FRAC < exact < 1.7 * dirt.EXACT_DUPLICATE_FRAC
    assert sum(n - 1 for n in pairs.values()) / len(reviews) > exact + 0.3 * dirt.NEAR_DUPLICATE_FRAC
    assert 0.02 < share(lambda r: not r["text"].strip() or r["parent_asin"] not in usable) + exact < 0.05
    assert share(lambda r: "<br />" in r["text"]) > 0.02
    assert share(lambda r: re.search(r"&(amp|quot|#39);", r["text"])) > 0.004
    assert share(lambda r: re.search("[\U0001f300-\U0001faff]", r["text"])) > 0.01
    assert 0.5 * dirt.PERSONAL_DATA_FRAC < share(lambda r: re.search(r"555.01\d\d|@example\.|\d{3}-\d{7}-\d{7}", r["text"])) < 1.6 * dirt.PERSONAL_DATA_FRAC
    foreign = r"\b(compré|funciona|recomiendo|ich habe|Lieferung|j'ai|je |comprei|llegó|chegou|nicht|vendedor|pt|muy|até|não|Finger weg)\b"
    assert share(lambda r: re.search(foreign, r["text"])) > 0.3 * dirt.OTHER_LANGUAGE_FRAC


def test_texts_carry_the_facts_of_their_product(reviews: list[dict], facts: dict[str, list[dict]]) -> None:
    own = other = total = 0
    ids = list(facts)
    for row in reviews:
        if len(row["text"].split()) < 15 or row["parent_asin"] not in facts:
            continue
        total += 1
        keys = {fact["id"]: tuple(fact["key_words"]) for fact in facts[row["parent_asin"]]}
        stranger = facts[ids[(ids.index(row["parent_asin"]) + 1) % len(ids)]]
        own += bool(find_facts(row["text"], keys))
        other += bool(find_facts(row["text"], {fact["id"]: tuple(fact["key_words"]) for fact in stranger}))
    assert own / total > 0.35
    assert other / total < 0.08


def test_bad_facts_pull_the_rating_down(reviews: list[dict], facts: dict[str, list[dict]]) -> None:
    ratings: dict[str, list[float]] = {"good": [], "bad": []}
    for row in reviews:
        for fact in facts.get(row["parent_asin"], ()):
            if find_facts(row["text"], {"it": tuple(fact["key_words"])}):
                ratings[fact["polarity"]].append(row["rating"])
    assert mean(ratings["good"]) > mean(ratings["bad"]) + 0.5


def test_each_product_has_two_to_four_facts(facts: dict[str, list[dict]]) -> None:
    for own in facts.values():
        assert 2 <= len(own) <= 4
        assert len({fact["id"] for fact in own}) == len(own)
        assert all(set(fact) == {"id", "sentence", "key_words", "polarity"} for fact in own)


def test_every_wording_of_a_fact_holds_its_key_words() -> None:
    templates = {template.fact_id for template in read_fact_templates()}
    seen = set()
    rng = Random(1)
    for product in make_products(9, 400, group="wordings"):
        for fact in product.facts:
            seen.add(fact.fact_id)
            for text in (fact.sentence, *(fact.word(rng) for _ in range(12))):
                assert find_facts(text, {fact.fact_id: fact.key_words}), (text, fact.key_words)
    assert seen == templates


def test_every_reference_of_the_grammar_resolves() -> None:
    for kind in KINDS:
        rules = read_grammar(kind).rules
        missing = {(name, ref) for name, alts in rules.items() for alt in alts for ref in find_references(alt) if ref not in rules and ref not in BOUND}
        assert not missing


def test_texts_have_no_leftovers_of_the_grammar(reviews: list[dict]) -> None:
    for row in reviews:
        assert not re.search(r"[{}\[\]|]|  |\s[,;]|,,", row["title"] + " " + row["text"].replace("\n", "\n").strip()), row["text"]
        assert not re.search(r"\b(the|and|that|is|it|in) \1\b", row["text"], re.IGNORECASE), row["text"]


def test_a_linear_classifier_learns_the_rating_but_not_perfectly(reviews: list[dict]) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    rows = [row for row in reviews if row["text"].strip()]
    texts, labels = [row["text"] for row in rows], [row["rating"] >= 4 for row in rows]
    cut = len(rows) * 3 // 4
    vectorizer = TfidfVectorizer(min_df=2)
    model = LogisticRegression(max_iter=1000, C=10).fit(vectorizer.fit_transform(texts[:cut]), labels[:cut])
    accuracy = model.score(vectorizer.transform(texts[cut:]), labels[cut:])
    majority = mean(labels[cut:])
    assert majority + 0.04 < accuracy < 0.98


def test_few_reviews_share_their_opening(reviews: list[dict]) -> None:
    openings = Counter(tuple(row["text"].lower().split()[:5]) for row in reviews if len(row["text"].split()) >= 10)
    assert sum(n for n in openings.values() if n > 1) / openings.total() < 0.4


def test_memory_does_not_grow_with_the_number_of_reviews() -> None:
    listed, delisted = make_products(1, 40, group="listed"), make_products(1, 4, group="delisted")

    def iterate(num_reviews: int) -> None:
        for row in iterate_reviews(listed, delisted, num_reviews=num_reviews, seed=1):
            assert row["user_id"]

    def peak_bytes(num_reviews: int) -> int:
        tracemalloc.start()
        try:
            iterate(num_reviews)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    iterate(200)  # imports and caches, which tracing would make slow
    # What a review may leave behind is 200 bytes, less than its text.
    assert peak_bytes(1200) < peak_bytes(400) + 160_000


def test_one_review_works(tmp_path: Path) -> None:
    write_sample_data(tmp_path / "new" / "folder", num_reviews=1, seed=0)
    assert len((tmp_path / "new" / "folder" / REVIEWS_FILE).read_text(encoding="utf-8").splitlines()) == 1
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == sorted((REVIEWS_FILE, METADATA_FILE, FACTS_FILE))


def test_bad_arguments_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least one review"):
        write_sample_data(tmp_path, num_reviews=0, seed=1)
    with pytest.raises(UsageError, match="--seed -1"):
        write_sample_data(tmp_path, num_reviews=1, seed=-1)
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunDirError, match="cannot write the sample data"):
        write_sample_data(tmp_path / "file", num_reviews=1, seed=1)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_failure_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dirt, "add_markup", fail)
    with pytest.raises(RunDirError, match="No space left on device"):
        write_sample_data(tmp_path, num_reviews=5, seed=1)
    assert list(tmp_path.iterdir()) == []


def test_grammar_refuses_brackets_that_do_not_match() -> None:
    for text in ("a [b", "a ] b", "a | b"):
        with pytest.raises(ValueError, match="brackets do not match"):
            parse_sequence(text)


def test_grammar_keeps_rules_of_other_kinds_out() -> None:
    text = "== a\none\n== a @wallet\ntwo\n"
    assert len(parse_rules(text)["a"]) == 1
    assert len(parse_rules(text, kind="wallet")["a"]) == 2


def test_grammar_does_not_praise_what_it_blames() -> None:
    grammar = Grammar(parse_rules("== g\nthe battery lasts\nthe color is nice\n== b\nthe battery dies\nthe clasp broke\n"))
    for seed in range(50):
        memory, rng = Memory(), Random(seed)
        said = grammar.expand("g", rng, {}, memory) + grammar.expand("b", rng, {}, memory)
        assert said.count("battery") <= 1


def test_tidy_repairs_articles_and_doubled_words() -> None:
    assert tidy("a excellent  case , an useful one") == "an excellent case, a useful one"
    assert tidy("the the case is an hour late") == "the case is an hour late"
    assert tidy("a used one, a unit, a one-hand grip") == "a used one, a unit, a one-hand grip"


def test_near_duplicates_differ_from_the_original() -> None:
    for seed in range(30):
        for text in ("Great case, works and is nice.", "Perfect"):
            assert dirt.change_few_words(text, Random(seed)) != text


def test_personal_data_uses_reserved_numbers_and_domains() -> None:
    from faker import Faker

    faker = Faker("en_US", use_weighting=False)
    faker.seed_instance(1)
    texts = [dirt.write_personal_data(faker, Random(seed)) for seed in range(60)]
    assert len(set(texts)) > 50
    assert all(domain in ("example.com", "example.org", "example.net") for text in texts for domain in re.findall(r"@([\w.]+\.\w+)", text))
