"""Planted facts: what counts as told, as told wrong and as left out, and on a whole marketplace."""

import html
import json

import pytest

from penname.config import EvaluateConfig
from penname.errors import DataError
from penname.evaluate.evaluate import build_samples
from penname.evaluate.fidelity.facts import FACTS_CONTRADICTED, FACTS_CORRECT, FACTS_KNOWN, FACTS_OMITTED
from penname.evaluate.planted_facts import PlantedFacts, read_planted_facts
from penname.evaluate.registry import METRICS
from penname.evaluate.samples import Row

FACTS = PlantedFacts(
    {
        "Acme Case": {"squeaks": ("squeak", "cold"), "yellows": ("yellow",)},
        "Acme Mount": {"squeaks": ("squeak", "hot")},
        "Acme Band": {"squeaks": ("squeak", "damp")},
    }
)


@pytest.mark.parametrize(
    ("text", "carried", "contradicted"),
    [
        ("It SQUEAKS when cold, and it yellowed.", {"squeaks", "yellows"}, set()),
        ("It squeaks when it is hot.", set(), {"squeaks"}),
        ("Squeaks, cold or hot.", {"squeaks"}, set()),
        ("It squeaks.", set(), set()),
        ("A photo of the squeaking thing.", set(), set()),  # hot is in photo
        ("", set(), set()),
    ],
)
def test_what_a_text_says_of_its_product(text, carried, contradicted):
    told = FACTS.read("  acme CASE ", text)
    assert (told.num_facts, told.carried, told.contradicted) == (2, carried, contradicted)
    assert FACTS.read("Some other case", text).num_facts == 0


def row(text, product="Acme Case"):
    return Row(5.0, "", text, "", product)


def compute(metric, base=None, **synthetic):
    config = EvaluateConfig(num_bootstrap=20)
    real = [row("Squeaks in the cold."), row("Nothing to say."), row("Squeaks when hot.", "Acme Mount"), row("x", "Unknown")]
    samples = build_samples(train=real, heldout=real, test=real, synthetic=synthetic, base=base, config=config, facts=FACTS)
    return {estimate.arm: estimate.value for estimate in metric.compute(samples)}


def test_shares_of_facts_by_hand():
    wrong = [row("Squeaks when hot."), row("Squeaks when damp, yellow."), row("-", "Acme Mount"), row("-", "Unknown")]
    # Real: five facts (2 + 2 + 1), two told. Wrong: five facts, one told, two contradicted.
    assert compute(FACTS_CORRECT, wrong=wrong) == pytest.approx({"real": 2 / 5, "wrong": 1 / 5})
    assert compute(FACTS_CONTRADICTED, wrong=wrong) == pytest.approx({"real": 0, "wrong": 2 / 5})
    assert compute(FACTS_OMITTED, wrong=wrong) == pytest.approx({"real": 3 / 5, "wrong": 2 / 5})
    # Three different facts are asked for in either; real tells two of them, wrong one.
    assert compute(FACTS_KNOWN, wrong=wrong) == pytest.approx({"real": 2 / 3, "wrong": 1 / 3})


def test_what_the_untrained_model_tells_stands_beside_the_arms_and_makes_no_set_smaller():
    wrong, base = [row("Squeaks when hot.")] * 4, [row("Squeaks in the cold, yellow."), row("-", "Acme Mount")]
    assert compute(FACTS_CORRECT, base=base, wrong=wrong) == pytest.approx({"real": 2 / 5, "wrong": 0, "base": 2 / 3})
    assert compute(FACTS_KNOWN, base=base, wrong=wrong) == pytest.approx({"real": 2 / 3, "wrong": 0, "base": 2 / 3})
    # Of products that nobody sells there is nothing to tell: the others stay.
    assert compute(FACTS_CORRECT, base=[row("x", "Unknown")] * 2, wrong=wrong).keys() == {"real", "wrong"}
    words_per_review = next(metric for metric in METRICS if metric.name == "words_per_review_mean")
    assert compute(words_per_review, base=base, wrong=wrong).keys() == {"real", "wrong"}


@pytest.fixture(scope="module")
def marketplace(tmp_path_factory):
    from penname.ingest.sample_data import write_sample_data

    folder = tmp_path_factory.mktemp("marketplace")
    write_sample_data(folder, num_reviews=400, seed=3)
    return folder


def test_real_reviews_of_the_marketplace_tell_facts_and_next_to_never_wrong_ones(marketplace):
    facts = read_planted_facts(marketplace)
    titles = {}
    for line in (marketplace / "meta_Cell_Phones_and_Accessories.jsonl").read_text().splitlines():
        product = json.loads(line)
        titles[product["parent_asin"]] = product["title"]
    reviews = [json.loads(line) for line in (marketplace / "Cell_Phones_and_Accessories.jsonl").read_text().splitlines()]
    known = [(titles[review["parent_asin"]], review["text"]) for review in reviews if titles.get(review["parent_asin"])]
    told = [facts.read(html.unescape(title), text) for title, text in known]
    num_carried, num_contradicted = sum(len(found.carried) for found in told), sum(len(found.contradicted) for found in told)
    assert num_carried > 0.1 * len(told)
    assert num_contradicted < 0.1 * num_carried
    # Of another product the same texts tell next to nothing: what is found is not chance.
    swapped = [facts.read(known[i - 1][0], text) for i, (_, text) in enumerate(known)]
    assert sum(len(found.carried) for found in swapped) < 0.3 * num_carried


def test_a_folder_without_facts_or_with_damaged_ones_is_one_line(tmp_path, marketplace):
    with pytest.raises(DataError, match=r"holds no facts\.json"):
        read_planted_facts(tmp_path)
    (tmp_path / "meta_x.jsonl").write_bytes((marketplace / "meta_Cell_Phones_and_Accessories.jsonl").read_bytes())
    for damaged in ("{", "[]", '{"products": {"B0": [1]}}', '{"products": 3}'):
        (tmp_path / "facts.json").write_text(damaged)
        if damaged != '{"products": {"B0": [1]}}':  # facts of a product that nobody lists are not looked at
            with pytest.raises(DataError, match="is damaged"):
                read_planted_facts(tmp_path)
