"""The stage and the command on files: what is read, what is written, what is refused. A fake embedder, no model."""

import csv
import gzip
import json

import numpy as np
import pytest

from penname.config import Config, EvaluateConfig
from penname.errors import DataError, ModelError, RunDirError, UsageError
from penname.evaluate import evaluate
from penname.evaluate.evaluate import evaluate_files, run_evaluate
from penname.evaluate.files import parse_synthetic_options, read_table
from penname.run_dir import RunDir, write_rows

KEYS = ["family", "name", "arm", "value", "ci95", "reference", "direction", "visibility", "num_records", "source", "version"]
CHEAP = ["words_per_review_mean", "ngram_overlap_frac", "tstr_accuracy_score"]
SOME = [*CHEAP, "frechet_distance", "abrupt_ending_frac", "mauve_score", "vendi_score", "majority_accuracy_score"]


def fake_embed(texts):
    vectors = np.array([[1.0 + len(text), 1.0 + text.count("e"), 1.0 + text.count("a")] for text in texts])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_rows(seed, num=40):
    rng = np.random.default_rng(seed)
    words = ["red", "case", "broke", "after", "three", "weeks", "nice", "charger", "hums", "great"]
    return [
        {
            "rating": int(rng.integers(1, 6)),
            "title": "A title",
            "text": " ".join(rng.choice(words, size=rng.integers(4, 20))) + ".",
            "category": "Cases",
        }
        for _ in range(num)
    ]


def write_file(path, rows):
    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(rows), path)
        return path
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8", newline="") as handle:
        if ".csv" in path.name or ".tsv" in path.name:
            writer = csv.DictWriter(handle, list(rows[0]), delimiter="\t" if ".tsv" in path.name else ",")
            writer.writeheader()
            writer.writerows(rows)
        else:
            handle.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def config(**kwargs):
    return EvaluateConfig(**{"num_bootstrap": 20, **kwargs})


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".tsv", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    rows = make_rows(1)
    read = read_table(write_file(tmp_path / f"rows{suffix}", rows), is_synthetic=False, seed=1)
    assert [(row.rating, row.title, row.text, row.category) for row in read] == [tuple(row.values()) for row in rows]


def test_files_with_heldout(tmp_path, capsys):
    paths = {name: write_file(tmp_path / f"{name}.jsonl", make_rows(i)) for i, name in enumerate(("real", "heldout", "a", "b"))}
    synthetic = {"a": paths["a"], "b-2": paths["b"]}
    out = tmp_path / "new" / "out"
    evaluate_files(real=paths["real"], heldout=paths["heldout"], synthetic=synthetic, out=out, config=config(metrics=SOME), embed=fake_embed)
    results = json.loads((out / "metrics.json").read_text())
    assert all(list(result) == KEYS for result in results)
    assert {result["arm"] for result in results} == {"real", "a", "b-2"}
    assert {result["visibility"] for result in results} == {"PRIVATE"}
    assert {result["num_records"] for result in results if result["name"] == "frechet_distance"} == {20}
    assert "thirds" not in capsys.readouterr().err
    first = (out / "metrics.json").read_bytes()
    evaluate_files(real=paths["real"], heldout=paths["heldout"], synthetic=synthetic, out=out, config=config(metrics=SOME), embed=fake_embed)
    assert (out / "metrics.json").read_bytes() == first


def test_files_without_heldout_are_split_into_thirds_and_say_so(tmp_path, capsys):
    real = write_file(tmp_path / "real.csv", make_rows(1, 61))
    made = write_file(tmp_path / "made.csv", make_rows(2, 61))
    evaluate_files(real=real, heldout=None, synthetic={"made": made}, out=tmp_path, config=config(metrics=["words_per_review_mean"]))
    assert "thirds" in capsys.readouterr().err
    results = json.loads((tmp_path / "metrics.json").read_text())
    assert [result["num_records"] for result in results] == [20, 20]


def test_split_is_disjoint_and_complete():
    rows = list(range(61))
    parts = evaluate._split_rows(rows, 3, seed=1)
    assert sorted(row for part in parts for row in part) == rows
    assert [len(part) for part in parts] == [21, 20, 20]
    assert parts != evaluate._split_rows(rows, 3, seed=2)


def test_real_rows_without_text_are_left_out_and_synthetic_ones_stay(tmp_path, capsys):
    rows = make_rows(1)
    rows[3]["text"] = None
    rows[4]["text"] = " "
    path = write_file(tmp_path / "rows.jsonl", rows)
    assert len(read_table(path, is_synthetic=False, seed=1)) == 38
    assert "2 rows without text" in capsys.readouterr().err
    assert len(read_table(path, is_synthetic=True, seed=1)) == 40


GOOD_LINE = json.dumps(make_rows(1)[0])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", None, "does not exist"),
        ("a.xlsx", b"x", "format that is not read"),
        ("a.jsonl", b"", "holds no rows"),
        ("a.csv", b"rating,title,text,category\n", "holds no rows"),
        ("a.csv", b"rating;title;text;category\n5;a;b;c\n", r"a\.csv:2: has no column 'text' \(found: rating;title;text;category\)"),
        ("a.csv", b"rating,title,text,category\n5,a,b\n5,a,b,c,d\n", r"a\.csv:3: has more fields"),
        ("a.csv", b'rating,title,text,category\n5,a,"b,c\n', "is not valid CSV"),
        ("a.csv", b"rating,title,text,category\n5,a,b,c\nfive,a,b,c\n", r"a\.csv:3: rating 'five' is no number from 1 to 5"),
        ("a.jsonl", (GOOD_LINE + "\n" + GOOD_LINE[:30]).encode(), r"a\.jsonl:2: is not valid JSON"),
        ("a.jsonl", b"[1, 2]\n", r"a\.jsonl:1: is not a JSON object"),
        ("a.jsonl", b'{"rating": 5, "title": "", "category": "x"}\n', r"a\.jsonl:1: has no column 'text'"),
        ("a.jsonl", f'{GOOD_LINE}\n{{"rating": 5, "title": "", "text": "x"}}\n'.encode(), r"a\.jsonl:2: has no column 'category'"),
        ("a.jsonl", b'{"rating": NaN, "title": "", "text": "x", "category": ""}\n', "no number"),
        ("a.jsonl", b'{"rating": true, "title": "", "text": "x", "category": ""}\n', "no number"),
        ("a.jsonl", b'{"rating": 7, "title": "", "text": "x", "category": ""}\n', "no number from 1 to 5"),
        ("a.jsonl", b'{"rating": 5, "title": "", "text": ["x"], "category": ""}\n', "text is not text"),
        ("a.jsonl", b'{"rating": 5, "title": "\xff"}\n', "is not UTF-8"),
        ("a.jsonl", (GOOD_LINE + "\n").encode() * 19, "has 19 rows"),
        ("a.jsonl.gz", gzip.compress((GOOD_LINE + "\n").encode() * 500)[:-20], "gzip"),
        ("a.jsonl.gz", b"not gzip at all", "gzip"),
        ("a.parquet", b"PAR1 not really", "not a readable Parquet file"),
    ],
)
def test_bad_files_are_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_table(path, is_synthetic=False, seed=1)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "rows.csv").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path / "rows.csv", is_synthetic=False, seed=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "at least one"),
        (["file.jsonl"], "NAME=FILE"),
        (["a="], "NAME=FILE"),
        (["a=x.csv", "a=y.csv"], "given twice"),
        (["a/b=x.csv"], "letters, digits"),
        (["=x.csv"], "letters, digits"),
        (["real=x.csv"], "another arm"),
    ],
)
def test_bad_synthetic_options(options, message):
    with pytest.raises(UsageError, match=message):
        parse_synthetic_options(options)


def test_out_that_is_a_file_and_unknown_metric_are_refused_before_anything_is_read(tmp_path):
    missing = tmp_path / "missing.jsonl"
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        evaluate_files(real=missing, heldout=None, synthetic={"a": missing}, out=tmp_path / "file", config=config())
    with pytest.raises(UsageError, match="did you mean"):
        evaluate_files(real=missing, heldout=None, synthetic={"a": missing}, out=tmp_path, config=config(metrics=["frechet"]))


def make_run(tmp_path, *, num_heldout=30, num_synthetic=25, arms=("with_dp", "no_dp")):
    run_dir = RunDir(tmp_path / "run")
    sizes = {"train_records": 50, "heldout_records": num_heldout, "test_records": 30, **{f"synthetic_{arm}": num_synthetic for arm in arms}}
    for seed, (name, num) in enumerate(sizes.items()):
        extra = {"product_title": "Acme Case"}
        if name.startswith("synthetic"):
            extra |= {"finish_reason": "length" if name.endswith("no_dp") else "stop"}
        write_rows(run_dir.path(name), ({**row, **extra} for row in make_rows(seed, num)))
    return run_dir


def run_config(*, metrics=None, arms=("with_dp", "no_dp")):
    return Config.model_validate({"evaluate": {"num_bootstrap": 20, "metrics": metrics}, "train": {"arms": list(arms)}})


def read_family(run_dir, family):
    return json.loads(run_dir.path(f"{family}_metrics").read_text())


def test_run_writes_one_file_a_family(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "_EmbedLater", lambda name: fake_embed)
    run_dir = make_run(tmp_path)
    run_evaluate(run_config(metrics=SOME), run_dir)
    assert json.loads(run_dir.path("left_out").read_text()) == []
    for family in ("privacy", "fidelity", "utility"):
        results = read_family(run_dir, family)
        assert {result["family"] for result in results} == {family}
        assert {result["arm"] for result in results} == {"real", "with_dp", "no_dp"}
        assert all(list(result) == KEYS and result["visibility"] == "PRIVATE" for result in results)
    cut = {r["arm"]: r["value"] for r in read_family(run_dir, "fidelity") if r["name"] == "abrupt_ending_frac"}
    assert cut == {"real": 0.0, "with_dp": 0.0, "no_dp": 1.0}


def test_run_with_one_arm_and_few_metrics(tmp_path):
    run_dir = make_run(tmp_path, arms=("no_dp",))
    run_evaluate(run_config(metrics=CHEAP[:2], arms=("no_dp",)), run_dir)
    assert {result["arm"] for result in read_family(run_dir, "fidelity")} == {"real", "no_dp"}
    assert [result["name"] for result in read_family(run_dir, "privacy")] == ["ngram_overlap_frac"] * 2
    assert read_family(run_dir, "utility") == []


def test_run_without_heldout_halves_test(tmp_path, capsys):
    run_dir = make_run(tmp_path, num_heldout=0)
    run_evaluate(run_config(metrics=CHEAP), run_dir)
    assert "half of test" in capsys.readouterr().err
    assert {result["num_records"] for result in read_family(run_dir, "fidelity")} == {15}


def test_run_with_missing_damaged_or_tiny_artefacts(tmp_path):
    run_dir = make_run(tmp_path, num_synthetic=1)
    with pytest.raises(DataError, match="has 1 records"):
        run_evaluate(run_config(metrics=CHEAP), run_dir)
    run_dir.path("synthetic_no_dp").write_text('{"rating": 5, "text": "x"}\n')
    with pytest.raises(RunDirError, match="lacks"):
        run_evaluate(run_config(metrics=CHEAP), run_dir)
    run_dir.path("synthetic_no_dp").unlink()
    with pytest.raises(RunDirError, match="is missing"):
        run_evaluate(run_config(metrics=CHEAP), run_dir)


def test_the_embedding_model_is_loaded_only_when_a_metric_needs_it(tmp_path, monkeypatch):
    from penname.model import embedding

    def refuse(name, *, dtype):
        raise ModelError(f"{name}: not there")

    monkeypatch.setattr(embedding, "load_embedder", refuse)
    run_dir = make_run(tmp_path)
    run_evaluate(run_config(metrics=CHEAP), run_dir)
    with pytest.raises(ModelError, match="not there"):
        run_evaluate(run_config(metrics=["frechet_distance"]), run_dir)


def test_importing_the_stage_is_cheap():
    import subprocess
    import sys

    code = "import sys, penname.evaluate.evaluate; print([m for m in ('torch', 'transformers', 'sklearn', 'scipy', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_metric_that_the_data_cannot_give_is_left_out_and_named(capsys):
    from penname.evaluate.computation import compute_metrics
    from penname.evaluate.evaluate import build_samples
    from penname.evaluate.fidelity.review_length import WORDS_MEAN
    from penname.evaluate.privacy.closer_to_train import CLOSER_TO_TRAIN
    from penname.evaluate.samples import Row

    rows = [Row(5.0, "t", "!!!", "C")] * 4
    samples = build_samples(train=rows, heldout=rows, test=rows, synthetic={"a": rows}, config=EvaluateConfig(num_bootstrap=20), embed=None)
    assert {row["name"] for row in compute_metrics(samples, (CLOSER_TO_TRAIN, WORDS_MEAN))} == {"words_per_review_mean"}
    assert "closer_to_train_frac is left out: no text has a word" in capsys.readouterr().err


def test_files_of_text_alone_leave_out_by_name_what_reads_more(tmp_path, capsys):
    paths = {name: write_file(tmp_path / f"{name}.jsonl", [{"text": row["text"]} for row in make_rows(i, 60)]) for i, name in enumerate(("real", "made"))}
    wanted = ["rating_length_correlation_error", "attribute_inference_excess_category", "jensen_shannon_divergence", "facts_known_frac", "tstr_accuracy_score"]
    evaluate_files(real=paths["real"], heldout=None, synthetic={"a": paths["made"]}, out=tmp_path, config=config(metrics=wanted), embed=fake_embed)
    assert "has no column rating, title, category; metrics that read it are left out" in capsys.readouterr().err
    left_out = {row["name"]: row for row in json.loads((tmp_path / "left_out.json").read_text())}
    assert left_out["rating_length_correlation_error"]["reason"] == ("train, heldout, test, synthetic/a have no rating; give a column 'rating'")
    assert left_out["tstr_accuracy_score"]["family"] == "utility"
    assert "only the fictional marketplace" in left_out["facts_known_frac"]["reason"]
    assert {row["name"] for row in json.loads((tmp_path / "metrics.json").read_text())} == set(wanted) - set(left_out)
    assert "jensen_shannon_divergence" not in left_out


def test_an_arm_that_cannot_be_measured_is_left_out_and_the_others_stay(tmp_path):
    empty = [{**row, "text": "!!!"} for row in make_rows(3)]
    files = {"real": make_rows(1), "heldout": make_rows(2), "good": make_rows(4), "empty": empty}
    paths = {name: write_file(tmp_path / f"{name}.jsonl", rows) for name, rows in files.items()}
    synthetic = {name: paths[name] for name in ("good", "empty")}
    chosen = config(metrics=["self_bleu", "distinct_1_frac", "zipf_slope"])
    evaluate_files(real=paths["real"], heldout=paths["heldout"], synthetic=synthetic, out=tmp_path, config=chosen, embed=fake_embed)
    results = json.loads((tmp_path / "metrics.json").read_text())
    assert {(row["name"], row["arm"]) for row in results} == {
        (name, arm) for name in ("self_bleu", "distinct_1_frac", "zipf_slope") for arm in ("real", "good")
    }
    left_out = json.loads((tmp_path / "left_out.json").read_text())
    assert {(row["name"], row["arm"]) for row in left_out} == {(name, "empty") for name in ("self_bleu", "distinct_1_frac", "zipf_slope")}
    assert all("words" in row["reason"] for row in left_out)
