"""What to write about: shares become whole numbers, products come from the public catalogue alone, the histogram is paid for once."""

import json
from collections import Counter

import pytest

from penname.config import Config
from penname.errors import DataError
from penname.generate.conditioning import plan_conditions, release_conditioning
from penname.privacy.errors import BudgetExceededError, LedgerError
from penname.privacy.ledger import Ledger
from penname.run_dir import RunDir, write_json, write_rows
from penname.schemas import Product

PRODUCTS = [Product("p1", "Case X", "Cases"), Product("p2", "Case Y", "Cases"), Product("p3", "Hum", "Chargers")]


def cells(**shares):
    return [{"rating": int(name[-1]), "category": name[:-1], "share": share} for name, share in shares.items()]


def plan(cells, products=PRODUCTS, *, num_records, needs_product=True, seed=1):
    return plan_conditions(cells, products, num_records=num_records, needs_product=needs_product, seed=seed)


@pytest.mark.parametrize("num_records", [1, 2, 7, 100, 1001])
def test_counts_follow_the_shares_and_sum_to_the_whole(num_records):
    shares = cells(Cases1=0.07, Cases5=0.63, Chargers3=0.3)
    counts = Counter((c.category, c.rating) for c in plan(shares, num_records=num_records))
    assert counts.total() == num_records
    for cell in shares:
        assert abs(counts[cell["category"], cell["rating"]] - num_records * cell["share"]) < 1


def test_a_cell_without_a_share_gets_nothing_and_ids_are_distinct():
    conditions = plan(cells(Cases1=0.0, Cases5=1.0, Chargers3=0.0), num_records=50)
    assert {(c.category, c.rating) for c in conditions} == {("Cases", 5)}
    assert len({c.record_id for c in conditions}) == 50
    assert {c.product_title for c in conditions} == {"Case X", "Case Y"}


def test_a_category_without_products_is_left_to_the_others():
    conditions = plan(cells(Gone5=0.9, Chargers2=0.1), num_records=20)
    assert {c.category for c in conditions} == {"Chargers"}
    assert len(conditions) == 20
    assert {c.category for c in plan(cells(Gone5=0.9, Chargers2=0.1), num_records=20, needs_product=False)} == {"Gone", "Chargers"}


@pytest.mark.parametrize("products", [[], [Product("p9", "Elsewhere", "Other")]])
def test_no_product_at_all_is_one_line(products):
    with pytest.raises(DataError, match="the catalogue has no product in any category") as caught:
        plan(cells(Cases5=1.0), products, num_records=3)
    assert "\n" not in str(caught.value)


def test_a_template_without_products_names_none():
    assert {c.product_title for c in plan(cells(Cases5=1.0), [], num_records=3, needs_product=False)} == {""}


def test_the_same_seed_draws_the_same_products():
    shares = cells(Cases5=1.0)
    assert plan(shares, num_records=40) == plan(shares, num_records=40)
    assert plan(shares, num_records=40) != plan(shares, num_records=40, seed=2)


# --- the release ------------------------------------------------------------------------------------------------------


@pytest.fixture
def run_dir(tmp_path):
    run_dir = RunDir(tmp_path)
    rows = [{"rating": 5, "category": "Cases"}] * 60 + [{"rating": 1, "category": "Cases"}] * 20
    write_rows(run_dir.path("train_records"), rows)
    unit = {"privacy_unit": "user", "unit_column": None, "max_records_per_unit": 2}
    write_json(run_dir.path("records_counts"), {"category_domain": ["Cases", "Chargers"], **unit})
    return run_dir


# Much noise, for which the accountant's grid is small.
PRIVACY = {"target_epsilon": 0.5, "marginals_frac": 0.95}


def released(run_dir, **changes):
    settings = {"privacy": {**PRIVACY, "noise_seed": 3}, **changes}
    return release_conditioning(Config.model_validate(settings), run_dir)


def test_every_cell_of_the_domain_is_released_and_charged_once(run_dir):
    first = released(run_dir)
    assert first["source"] == "dp_histogram"
    assert [(cell["rating"], cell["category"]) for cell in first["cells"]] == [(r, c) for r in (1, 2, 3, 4, 5) for c in ("Cases", "Chargers")]
    assert sum(cell["share"] for cell in first["cells"]) == pytest.approx(1)
    exact = {(5, "Cases"): 0.75, (1, "Cases"): 0.25}
    assert any(cell["share"] != exact.get((cell["rating"], cell["category"]), 0) for cell in first["cells"])
    ledger = run_dir.path("ledger").read_bytes()
    assert [entry["event_id"] for entry in Ledger.read(run_dir.path("ledger")).entries] == ["histogram/rating_category"]
    assert released(run_dir) == first
    run_dir.path("conditioning").unlink()
    assert released(run_dir) == first
    assert run_dir.path("ledger").read_bytes() == ledger


def test_the_key_is_gone_once_everything_is_released_and_a_new_one_costs_again(run_dir):
    released(run_dir, privacy=PRIVACY)
    assert not run_dir.path("noise_key").exists()
    run_dir.path("conditioning").unlink()

    def release_again_and_again():
        for _ in range(4):
            released(run_dir, privacy=PRIVACY)
            run_dir.path("conditioning").unlink()

    with pytest.raises(BudgetExceededError, match="histogram/rating_category"):
        release_again_and_again()
    assert not run_dir.path("conditioning").exists()


def test_other_records_never_get_the_noise_of_the_first(run_dir):
    released(run_dir)
    write_rows(run_dir.path("train_records"), [{"rating": 3, "category": "Chargers"}] * 50)
    run_dir.path("conditioning").unlink()
    with pytest.raises(LedgerError, match="under the same key") as caught:
        released(run_dir)
    assert "\n" not in str(caught.value)
    assert not run_dir.path("conditioning").exists()


def test_what_was_released_holds_no_hash_of_the_records(run_dir):
    assert set(released(run_dir)) == {"source", "cells"}


def test_without_the_private_arm_shares_are_exact_and_say_so(run_dir):
    result = released(run_dir, train={"arms": ["no_dp"]})
    assert result["source"].endswith("PRIVATE")
    assert {(c["rating"], c["category"]): c["share"] for c in result["cells"] if c["share"]} == {(5, "Cases"): 0.75, (1, "Cases"): 0.25}
    assert not run_dir.path("ledger").exists()
    assert json.loads(run_dir.path("conditioning").read_text()) == result
