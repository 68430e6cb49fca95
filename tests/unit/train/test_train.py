"""The stage's own parts: what the training inputs are."""

import pytest

from penname.config import Config
from penname.run_dir import RunDir
from penname.train.train import hash_training_inputs


@pytest.fixture
def run_dir(tmp_path):
    run_dir = RunDir(tmp_path)
    run_dir.path("train_records").write_text("{}\n")
    return run_dir


@pytest.mark.parametrize(
    ("change", "is_other"),
    [
        ({"train": {"learning_rate": 1e-4}}, True),
        ({"train": {"num_steps": 13}}, True),
        ({"train": {"max_record_tokens": 99}}, True),
        ({"model": {"lora_rank": 3}}, True),
        ({"privacy": {"l2_clip_norm": 2.0}}, True),
        # Other rounding under the same noise would be another sum.
        ({"train": {"physical_batch_tokens": 999}}, True),
        ({"train": {"layout": "alone"}}, True),
        ({"model": {"device": "cpu"}}, True),
        ({"train": {"checkpoint_every_secs": 0.0}}, False),
        ({"train": {"gradient_checkpointing": True}}, False),
        ({"train": {"arms": ["with_dp"]}}, False),
        ({"generate": {"num_records": 3}}, False),
    ],
)
def test_what_a_checkpoint_and_the_ledger_are_bound_to(run_dir, change, is_other):
    before = hash_training_inputs(Config(), run_dir)
    assert (hash_training_inputs(Config.model_validate(change), run_dir) != before) is is_other


def test_other_records_are_other_inputs(run_dir):
    before = hash_training_inputs(Config(), run_dir)
    run_dir.path("train_records").write_text("{} \n")
    assert hash_training_inputs(Config(), run_dir) != before
