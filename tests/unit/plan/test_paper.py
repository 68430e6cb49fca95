import pytest

from penname.config import Config, load_config
from penname.plan.known_models import KNOWN_MODELS
from penname.plan.paper import DEVICE_BYTES, count_room, describe_paper_plan, plan_on_paper
from penname.plan.plan import plan_run

LLAMA = KNOWN_MODELS["llama-3.1-8b"]


def test_llama_is_planned_without_being_loaded(monkeypatch: pytest.MonkeyPatch):
    def load(config):
        raise AssertionError("nothing may be loaded")

    monkeypatch.setattr("penname.model.base.load_base_model", load)
    by_name = plan_run(Config.model_validate({"model": {"name": "meta-llama/Llama-3.1-8B"}}), num_units=None)
    by_option = plan_run(Config(), num_units=None, model_size="llama-3.1-8b")
    assert by_name[1:] == by_option[1:]
    assert "8,030,261,248 weights, 16.1 GB in bfloat16" in by_option[0]
    assert "on paper, not measured" in by_option[1]


def test_a_tile_that_is_said_to_fit_fits_and_the_next_does_not():
    from penname.plan.memory import estimate_training

    config = Config.model_validate({"model": {"top_layers": None}})
    plan = plan_on_paper("llama-3.1-8b", LLAMA, config, record_tokens=224)
    assert [(row.adapted_layers, row.gradient_checkpointing) for row in plan.trainings] == [(32, False), (32, True)]
    assert plan.trainings[0].num_params == 20_971_520
    for device, size in DEVICE_BYTES.items():
        tile = plan.trainings[0].largest_tile[device]
        assert tile is not None
        needs = [estimate_training(LLAMA, config, weight_bytes=2, tile_tokens=tokens).total for tokens in (tile, 2 * tile)]
        assert needs[0] <= count_room(size) < needs[1]


def test_in_four_bits_the_base_takes_less_in_training_and_as_much_in_writing():
    whole, packed = (
        plan_on_paper("llama-3.1-8b", LLAMA, Config.model_validate({"model": {"quantization": name}}), record_tokens=224) for name in ("none", "nf4")
    )
    # Embedding and projection stay; of the rest a weight takes 4.127 bits.
    kept = 2 * 128_256 * 4096 + 65 * 4096
    expected = 2 * kept + (8_030_261_248 - kept) * 4.127 / 8
    assert packed.trainings[0].at_example.base_weights == pytest.approx(expected, rel=1e-4)
    assert packed.generation == whole.generation
    # Autograd keeps more than fused layers do, and one layer is unpacked at a time.
    assert packed.trainings[0].at_example.activations > whole.trainings[0].at_example.activations
    assert packed.trainings[0].at_example.passing > whole.trainings[0].at_example.passing
    assert "GB while it trains (model.quantization)" in describe_paper_plan(packed)[0]
    assert "quantization" not in describe_paper_plan(whole)[0]


def test_dropout_keeps_layers_from_being_fused_and_is_planned_so():
    plans = [plan_on_paper("llama-3.1-8b", LLAMA, Config.model_validate({"model": {"lora_dropout": p}}), record_tokens=224) for p in (0.0, 0.05)]
    assert plans[1].trainings[0].at_example.activations > plans[0].trainings[0].at_example.activations


def test_layers_with_adapters_are_planned_as_configured_and_all():
    plan = plan_on_paper("llama-3.1-8b", LLAMA, Config(), record_tokens=224)
    assert [row.adapted_layers for row in plan.trainings] == [10, 10, 32, 32]
    assert plan.trainings[0].num_params * 32 == plan.trainings[2].num_params * 10


def test_a_model_that_does_not_fit_is_said_not_to():
    config = Config.model_validate({"generate": {"batch_size": 128, "max_new_tokens": 4096}})
    lines = describe_paper_plan(plan_on_paper("llama-3.1-8b", LLAMA, config, record_tokens=304))
    assert any("24 GB: does not fit; 80 GB: does not fit" in line for line in lines)


def test_time_grows_with_tokens_layers_and_what_is_computed_again():
    config = Config.model_validate({"train": {"num_steps": 10, "expected_batch_size": 100, "max_record_tokens": 200}, "records": {"max_records_per_user": 1}})
    plan = plan_on_paper("llama-3.1-8b", LLAMA, config, record_tokens=200)
    some, some_again, whole, whole_again = (row.secs["80 GB"] for row in plan.trainings)
    # 200,000 tokens through 8 billion weights: forward, and the gradients of the inputs where there are adapters.
    products = 2 * 8_030_261_248 * 200_000 / (0.35 * 989e12)
    assert whole == pytest.approx(2 * products)
    assert whole_again == pytest.approx(3 * products)
    assert some == pytest.approx(products * (1 + 10 / 32))
    assert some_again == pytest.approx(products * (1 + 20 / 32))
    assert plan.trainings[0].secs["24 GB"] == pytest.approx(some * 989 / 121)
    # One round of 128 texts, each step of which reads all weights.
    assert plan.writing_secs["24 GB"] == pytest.approx(config.generate.max_new_tokens * 2 * 8_030_261_248 / 0.15e12)


def test_the_config_of_the_original_run_is_planned():
    from pathlib import Path

    config = load_config(Path(__file__).resolve().parents[3] / "configs" / "amazon_llama31_8b.yaml")
    lines = plan_run(config, num_units=None, model_size="llama-3.1-8b")
    assert any("adapters on 32 layers" in line for line in lines)
    assert sum("an arm  " in line for line in lines) == 3
