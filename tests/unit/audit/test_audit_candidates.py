"""Whom the attacks ask about: whole units, canaries planted or not, and prompts that ask for the rest of one."""

import shutil
from collections import Counter
from dataclasses import asdict

import pytest

from penname.audit.candidates import draw_units, list_candidates
from penname.audit.evidence import Evidence
from penname.audit.plant import open_template, run_plant
from penname.audit.probe import list_questions
from penname.audit.twins import list_twins
from penname.config import load_config
from penname.errors import DataError, RunDirError
from penname.records.canaries import read_manifest
from penname.run_dir import RunDir, read_rows, write_json, write_rows
from penname.schemas import Record

CONFIG = load_config(None, ["privacy.noise_seed=3", "audit.canaries={1: 12, 8: 6}", "audit.num_references=5", "audit.max_records_scored=10"])


def make_records(num, letter, *, words=0):
    fields = {"prompt": "Rating: 4\nTitle:", "rating": 4, "category": "Cases", "product_title": "", "title": "T"}
    texts = [f"review {letter} {i} " + " ".join(f"{letter}word{words * i + k}" for k in range(words)) for i in range(num)]
    return [
        Record(record_id=f"{letter}{i}", unit_id=f"{letter}u{i // 2}", completion=f" T\nReview: {text}\n\n", text=text, **fields)
        for i, text in enumerate(texts)
    ]


def write_audit(root, *, heldout=30, config=CONFIG):
    run_dir = RunDir(root)
    for split, num in (("train", 40), ("heldout", heldout), ("test", 30)):
        write_rows(run_dir.path(f"{split}_records"), [asdict(record) for record in make_records(num, split, words=9)])
    write_json(run_dir.path("ingest_counts"), {"num_products": 0})
    write_json(run_dir.path("records_counts"), {"max_records_per_unit": 4, "privacy_unit": "user"})
    run_plant(config, run_dir)
    return run_dir


@pytest.fixture
def audit(tmp_path):
    return write_audit(tmp_path)


def test_planted_are_those_whose_coin_fell_in_beside_all_records(audit):
    canaries, planted = read_manifest(audit.path("canaries")), list(read_rows(audit.path("planted_records") / "with_canaries.jsonl"))
    assert len(canaries) == 19
    assert planted[:40] == list(read_rows(audit.path("train_records")))
    assert Counter(row["text"] for row in planted[40:]) == {canary.whole: canary.num_repetitions for canary in canaries if canary.is_in}
    assert {canary.is_in for canary in canaries} == {True, False}


def test_planting_again_tosses_the_same_coins_and_another_key_tosses_others(tmp_path):
    free = load_config(None, ["audit.canaries={1: 40}"])
    first = write_audit(tmp_path / "a", config=free)
    before = first.path("canaries").read_bytes()
    run_plant(free, first)
    assert first.path("canaries").read_bytes() == before
    assert first.path("coins_key").stat().st_mode & 0o777 == 0o600
    other = write_audit(tmp_path / "b", config=free)
    assert other.path("canaries").read_bytes() != before


def test_candidates_are_train_heldout_canaries_and_references(audit):
    candidates = list_candidates(CONFIG, audit)
    assert Counter(candidate.group for candidate in candidates) == {"train": 10, "heldout": 10, "canary": 19, "reference": 15}
    assert candidates == list_candidates(CONFIG, audit)
    for candidate in candidates:
        assert (candidate.canary is not None) is (candidate.group in ("canary", "reference"))
        assert candidate.canary is None or candidate.record.text == candidate.canary.whole
    left_out = [candidate for candidate in candidates if candidate.canary is not None and not candidate.canary.is_in]
    assert all(candidate.record.prompt and candidate.record.text in candidate.record.completion for candidate in left_out)


def test_without_heldout_records_test_lends_its_words_and_nobody_else(tmp_path):
    candidates = list_candidates(CONFIG, write_audit(tmp_path, heldout=0))
    assert not [candidate for candidate in candidates if candidate.group == "heldout"]
    beginnings = [candidate.canary.prefix for candidate in candidates if candidate.canary is not None and candidate.canary.kind == "high_perplexity"]
    assert all(beginning.startswith("review test ") for beginning in beginnings)


def test_without_heldout_records_half_of_test_stands_in_for_text_metrics(tmp_path):
    run_dir = write_audit(tmp_path, heldout=0)
    (twin,) = list_twins(CONFIG, run_dir)
    shutil.copyfile(run_dir.path("planted_records") / "with_canaries.jsonl", twin.run_dir.path("train_records"))
    for arm in ("with_dp", "no_dp"):
        shutil.copyfile(run_dir.path("test_records"), twin.run_dir.path(f"synthetic_{arm}"))
    samples = Evidence(CONFIG, run_dir).samples
    assert (len(samples.heldout), len(samples.test), len(samples.synthetic["no_dp"])) == (15, 15, 30)
    assert not set(samples.heldout.texts) & set(samples.test.texts)
    assert len(samples.train) > 40
    write_rows(run_dir.path("test_records"), [asdict(record) for record in make_records(2, "test")])
    with pytest.raises(DataError, match="too few to compare with"):
        _ = Evidence(CONFIG, run_dir).samples


def test_whole_units_are_drawn():
    records = make_records(100, "x")
    drawn = draw_units(records, max_records=11, seed=1)
    assert len(drawn) == 12
    assert set(Counter(record.unit_id for record in drawn).values()) == {2}
    assert drawn == [record for record in records if record in drawn]
    assert drawn != draw_units(records, max_records=11, seed=2)
    assert draw_units(records, max_records=100, seed=1) == records


def test_questions_give_the_prompt_and_the_beginning_and_never_the_secret(audit, byte_tokenizer):
    candidates = list_candidates(CONFIG, audit)
    questions = list_questions(candidates, open_template(CONFIG, audit), byte_tokenizer)
    canaries = {candidate.canary.canary_id: candidate for candidate in candidates if candidate.group == "canary"}
    assert Counter(canary_id for canary_id, _, _ in questions) == dict.fromkeys(canaries, 2)
    for canary_id, way, tokens in questions:
        candidate, text = canaries[canary_id], byte_tokenizer.decode(tokens)
        assert text.startswith(candidate.record.prompt)
        assert text.endswith(candidate.canary.prefix) is (way == "prefix")
        assert candidate.canary.suffix not in text
        assert way == "record" or (candidate.record.prompt + candidate.record.completion).startswith(text)


def test_damaged_and_poor_data_are_one_line(audit, tmp_path):
    audit.path("train_records").write_text('{"record_id": "x"}\n')
    with pytest.raises(RunDirError, match="is damaged"):
        run_plant(CONFIG, audit)
    poor = RunDir(tmp_path / "poor")
    for split in ("train", "heldout", "test"):
        write_rows(poor.path(f"{split}_records"), [asdict(record) for record in make_records(3, split)])
    write_json(poor.path("ingest_counts"), {"num_products": 0})
    write_json(poor.path("records_counts"), {"max_records_per_unit": 4, "privacy_unit": "user"})
    with pytest.raises(DataError, match=r"leave that kind out of audit\.kinds"):
        run_plant(CONFIG, poor)
