"""The downstream model, on a two-layer random Llama: it learns a task that can be learned, its scores are the likelihoods they say, and nothing finished
is computed twice. One file, so that TRL is imported once."""

import json
import math

import numpy as np
import pytest
import torch

from penname.config import EvaluateConfig, ModelConfig
from penname.errors import ModelError, UsageError
from penname.evaluate.computation import compute_metrics
from penname.evaluate.evaluate import build_samples
from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import Row
from penname.evaluate.utility import downstream_tuning, rating_model
from penname.evaluate.utility.downstream import DOWNSTREAM
from penname.evaluate.utility.downstream_scores import DownstreamScores, FitScores, count_confusion, perplexity
from penname.evaluate.utility.downstream_tuning import DownstreamTuner, round_ratings
from penname.evaluate.utility.rating_model import rating_loss, score_reviews, tune_model
from penname.evaluate.utility.rating_task import RatingExample, RatingTask
from tests.conftest import make_byte_tokenizer, make_tiny_llama

GOOD, BAD = "ooo", "xxx"


def make_rows(num, *, flip=False):
    """Two kinds of reviews; what they say decides the rating."""
    return [Row(5.0 if (i % 2 == 0) != flip else 1.0, "", GOOD if i % 2 == 0 else BAD, "Cases") for i in range(num)]


@pytest.fixture(scope="module")
def tokenizer():
    return make_byte_tokenizer()


@pytest.fixture(scope="module")
def task(tokenizer):
    return RatingTask.from_tokenizer(tokenizer)


def test_an_example_ends_before_the_rating_and_keeps_the_question(tokenizer, task):
    short, long = task.encode(tokenizer, ["nice", "n" * 200], [4, 2], max_tokens=60)
    assert tokenizer.decode([*short.token_ids, task.label_ids[3]]) == "Review: nice\nRating: 4"
    assert len(long.token_ids) + 1 == 60
    assert tokenizer.decode(long.token_ids).endswith("n\nRating: ")
    assert (short.num_before, short.num_text, short.rating) == (len("Review:"), len(" nice"), 4)


def test_ratings_that_are_not_one_token_are_refused(tokenizer):
    class Merging:
        eos_token_id = 2

        def __call__(self, text, **kwargs):
            return {"input_ids": tokenizer(text[:-1])["input_ids"] + ([7, 8] if text.endswith("5") else [9])}

    with pytest.raises(ModelError, match="one token"):
        RatingTask.from_tokenizer(Merging())


def test_scores_are_the_likelihoods_of_the_tokens(tokenizer, task):
    model = make_tiny_llama(seed=3)
    examples = task.encode(tokenizer, ["A short one.", "A longer one, so that the other is padded.", ""], [1, 2, 3], max_tokens=64)
    scores = score_reviews(model, tokenizer, examples, task)
    for place, example in enumerate(examples):
        with torch.no_grad():
            log_probs = model(torch.tensor([example.token_ids])).logits[0].double().log_softmax(-1)
        ratings = log_probs[-1, task.label_ids]
        np.testing.assert_allclose(scores.rating_log_probs[place], (ratings - ratings.logsumexp(0)).numpy(), atol=1e-5)
        text = range(example.num_before, example.num_before + example.num_text)
        expected = sum(float(log_probs[at - 1, example.token_ids[at]]) for at in text)
        assert scores.text_log_likelihoods[place] == pytest.approx(expected, abs=1e-3)
    assert scores.num_text_tokens.tolist() == [len(" A short one."), len(" A longer one, so that the other is padded."), 1]


def test_the_loss_weighs_text_and_rating_alike(tokenizer, task):
    model = make_tiny_llama(seed=4)
    token_ids = torch.tensor([[5, 6, 7, 8, 9], [5, 6, 7, 2, 2]])
    labels = torch.tensor([[-100, 6, 7, -100, 9], [-100, -100, 7, -100, -100]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    log_probs = model(token_ids, attention_mask=mask).logits.log_softmax(-1)
    first = -(log_probs[0, 0, 6] + log_probs[0, 1, 7]) / 2 - log_probs[0, 3, 9]
    second = -log_probs[1, 1, 7]  # a review without text: its rating alone
    assert rating_loss(model, token_ids, mask, labels).item() == pytest.approx((first + second).item() / 4, abs=1e-5)


def test_perplexity_and_confusion_by_hand():
    assert perplexity(np.log([0.25]), np.array([2])) == pytest.approx(2.0)
    counts = count_confusion(np.array([1, 1, 5]), np.array([1, 5, 5]))
    assert (counts[0, 0], counts[0, 4], counts[4, 4], counts.sum()) == (1, 1, 1, 3)


def test_half_stars_are_rounded_up():
    from penname.evaluate.samples import RowSet

    rows = [Row(rating, "", "t", "c") for rating in (1.0, 2.5, 4.49, 5.0)]
    assert round_ratings(RowSet("test", rows, lambda texts: np.zeros((len(texts), 2)))) == [1, 3, 4, 5]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory, tokenizer):
    """A random Llama whose head is so wide that its frozen weights let it be sure of something."""
    folder, model = tmp_path_factory.mktemp("wide_llama"), make_tiny_llama(tied=False)
    with torch.no_grad():
        model.lm_head.weight *= 30
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def config(model_dir):
    return EvaluateConfig(
        metrics=[metric.name for metric in DOWNSTREAM],
        num_bootstrap=20,
        downstream_model=str(model_dir),
        downstream_device="cpu",
        downstream_top_layers=None,
        downstream_seeds=[2],
        downstream_num_steps=24,
        downstream_batch_size=8,
        downstream_learning_rate=1e-2,
        downstream_max_records=32,
        downstream_max_test_records=20,
        downstream_max_tokens=32,
    )


def make_samples(config, tuner):
    rows = {"train": make_rows(40), "heldout": make_rows(20), "test": make_rows(20)}
    return build_samples(**rows, synthetic={"right": make_rows(36), "flipped": make_rows(34, flip=True)}, config=config, downstream=tuner)


@pytest.fixture(scope="module")
def tuned(config, tmp_path_factory):
    """Scores folder, samples and rows of metrics.json of a whole evaluation: 2 sets and real, one seed, and the base."""
    folder = tmp_path_factory.mktemp("downstream")
    samples = make_samples(config, DownstreamTuner(config, folder))
    return folder, samples, compute_metrics(samples, DOWNSTREAM)


def test_each_set_teaches_what_it_holds(tuned):
    folder, samples, rows = tuned
    assert samples.left_out == []
    value = {(row["name"], row["arm"]): row["value"] for row in rows}
    names = [metric.name for metric in DOWNSTREAM]
    assert [(row["name"], row["arm"]) for row in rows] == [(name, arm) for name in names for arm in ("real", "right", "flipped", "base")]
    for arm in ("real", "right"):
        assert value["downstream_llm_accuracy_score", arm] == 1.0
        assert value["downstream_llm_macro_f1_score", arm] == 1.0
        assert value["downstream_llm_mean_absolute_error", arm] == 0.0
    assert value["downstream_llm_accuracy_score", "flipped"] == 0.0
    assert value["downstream_llm_mean_absolute_error", "flipped"] == 4.0
    # The texts are the same, whatever their ratings; the base has not seen them.
    for arm in ("real", "right", "flipped"):
        assert value["downstream_llm_perplexity", arm] < 0.2 * value["downstream_llm_perplexity", "base"]
    assert samples.for_figures["downstream_confusion"]["counts"]["flipped"][0] == [0, 0, 0, 0, 10]
    assert len(list(folder.iterdir())) == 4


def test_what_was_finished_is_not_computed_again(tuned, config, monkeypatch):
    folder, _, rows = tuned
    done = []
    monkeypatch.setattr(DownstreamTuner, "_compute", lambda self, label, train, test, seed: done.append(label) or pytest.fail("computed again"))
    assert compute_metrics(make_samples(config, DownstreamTuner(config, folder)), DOWNSTREAM) == rows
    assert done == []


def test_a_stopped_evaluation_goes_on_and_other_work_is_done_anew(tuned, config, tmp_path, monkeypatch):
    folder, _, rows = tuned
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "right_seed_2.json").unlink()
    (tmp_path / "base.json").write_text('{"key": ')
    original, done = DownstreamTuner._compute, []

    def compute(self, label, *arguments):
        done.append(label)
        return FitScores.from_json(json.loads((folder / ("base.json" if "base" in label else "right_seed_2.json")).read_text()))

    monkeypatch.setattr(DownstreamTuner, "_compute", compute)
    assert compute_metrics(make_samples(config, DownstreamTuner(config, tmp_path)), DOWNSTREAM) == rows
    assert done == ["downstream 1 of 4: base", "downstream 3 of 4: right, seed 2"]
    done.clear()
    other = config.model_copy(update={"downstream_num_steps": 25})
    DownstreamTuner(other, tmp_path)(make_samples(other, None))
    assert len(done) == 4
    assert original is not DownstreamTuner._compute


def test_the_same_seed_gives_the_same_model(tokenizer, task):
    def tune():
        config = ModelConfig(lora_rank=4, top_layers=None)
        examples = task.encode(tokenizer, [GOOD, BAD] * 4, [5, 1] * 4, max_tokens=32)
        settings = {"config": config, "engine": "trl", "num_steps": 3, "batch_size": 4, "learning_rate": 1e-2, "seed": 7}
        model = tune_model(make_tiny_llama().requires_grad_(False), tokenizer, examples, task, **settings)
        return score_reviews(model, tokenizer, examples, task).rating_log_probs

    np.testing.assert_array_equal(tune(), tune())


def test_running_out_of_memory_is_one_line_and_leaves_the_metric_out(config, tmp_path, monkeypatch):
    tried = []

    def fail(*arguments, **options):
        tried.append(arguments)
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(rating_model, "score_reviews", fail)
    samples = make_samples(config, DownstreamTuner(config, tmp_path))
    with pytest.raises(LeftOutError, match=r"memory ran out at downstream 1 of 4: base; make evaluate.downstream_batch_size"):
        DOWNSTREAM[0].compute(samples)
    with pytest.raises(LeftOutError, match="memory ran out"):
        DOWNSTREAM[1].compute(samples)
    assert len(tried) == 1


def test_another_error_is_not_taken_for_a_lack_of_memory(config, tmp_path, monkeypatch):
    monkeypatch.setattr(rating_model, "load_model", lambda *arguments, **options: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        DownstreamTuner(config, tmp_path)(make_samples(config, None))


def test_libraries_that_are_missing_are_named(config, tmp_path, monkeypatch):
    import importlib.util

    with pytest.raises(UsageError, match="downstream_engine: unsloth cannot be used here"):
        DownstreamTuner(config.model_copy(update={"downstream_engine": "unsloth"}), tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"penname\[downstream\]"):
        DownstreamTuner(config, tmp_path)


def test_nothing_is_told_to_anyone(monkeypatch, tokenizer, task, tmp_path):
    import trl.trainer.base_trainer

    monkeypatch.setattr(trl.trainer.base_trainer, "send_telemetry", lambda **options: pytest.fail("sent"))
    monkeypatch.delenv("CI", raising=False)
    examples = [RatingExample([5, 6, 7], 1, 1, 3)] * 2
    settings = {"num_steps": 1, "batch_size": 2, "learning_rate": 1e-2, "seed": 1}
    tune_model(make_tiny_llama(), tokenizer, examples, task, config=ModelConfig(top_layers=None), engine="trl", **settings)


def test_without_a_tuner_the_metrics_are_left_out(config):
    with pytest.raises(LeftOutError):
        DOWNSTREAM[0].compute(make_samples(config, None))


def test_an_interval_holds_the_chance_of_seeds_and_of_rows(config):
    """Two seeds that disagree, one right and one wrong: the interval reaches far beyond that of either."""
    truth = np.array([1, 5] * 10)

    def fit(ratings):
        log_probs = np.full((20, 5), math.log(0.01))
        log_probs[np.arange(20), ratings - 1] = math.log(0.96)
        return FitScores(log_probs, np.full(20, -3.0), np.full(20, 2))

    scores = DownstreamScores(truth, {arm: [fit(truth), fit(6 - truth)] for arm in ("real", "right", "flipped")} | {"base": [fit(truth)]}, 20)
    estimates = {estimate.arm: estimate for estimate in DOWNSTREAM[0].compute(make_samples(config, lambda samples: scores))}
    assert estimates["real"].value == 0.5
    assert (estimates["real"].ci95[0], estimates["real"].ci95[1]) == (0.0, 1.0)
    assert estimates["base"].value == 1.0
    assert downstream_tuning.are_downstream([DOWNSTREAM[0].name])
