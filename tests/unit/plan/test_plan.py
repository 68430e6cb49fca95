from dataclasses import replace

import pytest

from penname.config import Config, load_config
from penname.errors import UsageError
from penname.plan.plan import make_plan, plan_run
from penname.plan.wording import describe_plan


def small(letter_model_dir, *more: str) -> Config:
    settings = [
        f"model.name={letter_model_dir}",
        "model.dtype=float32",
        "model.device=cpu",
        "model.top_layers=1",
        "data.sample_num_reviews=300",
        "records.prompt_template='{category} {rating}:'",
        "records.completion_template='{title}|{text}'",
        "train.physical_batch_tokens=256",
        "train.expected_batch_size=5",
        "train.num_steps=3",
        "generate.num_records=12",
        "generate.max_new_tokens=48",
        "generate.max_draws_per_record=40",
        "evaluate.metrics=[words_per_review_mean]",
        *more,
    ]
    return load_config(None, settings)


@pytest.fixture(scope="module")
def planned(letter_model_dir):
    with pytest.MonkeyPatch.context() as patch:
        # The rounds go on until the time is up: here the least of them are enough.
        patch.setattr("penname.plan.plan._TRAINING_SECS", 0.0)
        patch.setattr("penname.plan.plan._WRITING_SECS", 60.0)
        patch.setattr("penname.plan.evaluation_speed.measure_evaluation", lambda config, *, text_tokens: NO_EVALUATION)
        return make_plan(small(letter_model_dir), num_units=None)


class _NoEvaluation:
    def stage_secs(self, *, num_rows: int, num_sets: int) -> float:
        self.asked = num_rows, num_sets
        return 7.0


NO_EVALUATION = _NoEvaluation()


def test_a_plan_counts_what_a_run_computes(planned, letter_model_dir, tmp_path):
    """The demo in small, run for real: its draws, tokens and texts are those that were expected, as far as chance goes."""
    from penname.pipeline import run_stages
    from penname.run_dir import RunDir, read_json, read_rows

    # A model that has learned nothing writes as the plan heard it write. What is drawn again for being broken is in no plan.
    settings = ("train.no_dp_learning_rate=1e-9", "train.arms=[no_dp]", "train.num_steps=24", "privacy.noise_seed=3", "generate.redraw_faults=[]")
    config = small(letter_model_dir, *settings)
    run_stages(config, tmp_path / "run", ("ingest", "records", "train", "generate"))
    run_dir = RunDir(tmp_path / "run")
    assert planned.texts.num_units == read_json(run_dir.path("records_counts"))["num_units"]["train"]
    rows = list(read_rows(run_dir.path("train_metrics_no_dp")))
    assert planned.training.units_a_step == pytest.approx(sum(row["num_units"] for row in rows) / 24, rel=0.3)
    assert planned.training.tokens_a_step == pytest.approx(sum(row["tokens"] for row in rows) / 24, rel=0.35)
    draws = read_json(run_dir.path("generate_counts"))["no_dp"]["num_draws"]
    assert planned.passes.num_draws == pytest.approx(draws, rel=0.5)


def test_times_add_up(planned):
    speed, work = planned.training_speed, planned.training
    stages = planned.stage_secs()
    assert list(stages) == ["ingest", "records", "train", "generate", "evaluate"]
    assert stages["evaluate"] == 7.0
    assert NO_EVALUATION.asked == (12, 5)
    low, high = planned.stage_secs(min), planned.stage_secs(max)
    assert all(low[stage] <= stages[stage] <= high[stage] for stage in stages)
    # An arm that is one second a token slower takes a second more for each of its tokens, and nothing else changes.
    token_secs = [{"with_dp": [dp], "no_dp": [1.0], "frozen": [0.5]} for dp in (1.0, 2.0)]
    secs = [replace(planned, training_speed=replace(speed, token_secs=each)).stage_secs()["train"] for each in token_secs]
    assert secs[1] - secs[0] == pytest.approx(work.trial_tokens + work.check_tokens + work.num_steps * work.computed_tokens_a_step)


def test_the_lines_name_every_figure(planned):
    text = "\n".join(describe_plan(planned))
    for word in ("epsilon spent", "training tokens", "self-check", "generated tokens", "speed with_dp", "speed no_dp", "time  ", "memory  ", "keys and values"):
        assert word in text
    assert "PRIVATE" not in text


def test_what_private_lengths_have_gone_into_is_called_private(planned):
    lines = describe_plan(replace(planned, texts=replace(planned.texts, is_private=True)))
    mark = next(i for i, line in enumerate(lines) if line.startswith("PRIVATE"))
    count = len(planned.promise.lines)
    assert lines[:count] == planned.promise.lines
    assert all(line.startswith(("noise ", "SMALL BATCH ", "TOO SMALL ")) for line in lines[count:mark])
    assert len(lines) == len(describe_plan(planned)) + 1


def test_memory_is_never_less_than_was_seen(planned):
    assert planned.predicted_peak_bytes >= planned.peak_bytes > planned.library_bytes > 0


def test_what_a_plan_cannot_know_is_asked_for():
    table = {"format": "table", "reviews": "gone.csv", "columns": dict.fromkeys(("rating", "title", "text", "category"), "a"), "categories": ["A"]}
    with pytest.raises(UsageError, match="--num-units"):
        plan_run(Config.model_validate({"data": table}), num_units=None)
    with pytest.raises(UsageError, match="give one of them"):
        plan_run(Config.model_validate({"data": table}), num_units=9, record_tokens=50, reads_lengths=True)
    with pytest.raises(UsageError, match=r"generate\.engine"):
        plan_run(Config.model_validate({"generate": {"engine": "vllm"}}), num_units=None)
