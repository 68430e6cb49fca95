"""The config: a bad value is named with its key in one line, an override means what it says, a path counts from where it was written."""

from pathlib import Path

import pytest

from penname.completion import completion_separator
from penname.config import load_config
from penname.errors import UsageError


def fails(path=None, overrides=None):
    with pytest.raises(UsageError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def written(tmp_path, text, name="c.yaml"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


BAD_VALUES = {
    "privacy.target_epsilon=0": ("privacy.target_epsilon", "greater than 0", "got 0"),
    "privacy.target_epsilon=-1": ("privacy.target_epsilon", "got -1"),
    "privacy.target_epsilon=.inf": ("privacy.target_epsilon",),
    "privacy.target_epsilon=.nan": ("privacy.target_epsilon",),
    "privacy.target_epsilon=lots": ("privacy.target_epsilon", "got 'lots'"),
    "privacy.target_epsilon=": ("privacy.target_epsilon", "None"),
    "privacy.delta=1": ("privacy.delta", "less than 1"),
    "privacy.delta=0": ("privacy.delta",),
    "privacy.unit=person": ("privacy.unit", "'user'"),
    "privacy.unit=column": ("privacy.unit_column: ", "privacy.unit=column needs the name of a column"),
    "privacy.unit_column=home": ("privacy.unit_column: ", "goes with privacy.unit=column only, and privacy.unit is auto"),
    "privacy={unit: user, unit_column: home}": ("privacy.unit_column: ", "privacy.unit is user"),
    "privacy={unit: record, unit_column: home}": ("privacy.unit_column: ", "privacy.unit is record"),
    "privacy={unit: column, unit_column: ' '}": ("privacy.unit_column: ", "' ' is no name of a column"),
    'privacy={unit: column, unit_column: "a\\nb"}': ("privacy.unit_column: ", "is no name of a column"),
    "privacy={unit: column, unit_column: 7}": ("privacy.unit_column: ", "got 7"),
    "data.drop_rows_without_id=maybe": ("data.drop_rows_without_id", "got 'maybe'"),
    "privacy.l2_clip_norm=0": ("privacy.l2_clip_norm",),
    "privacy.marginals_frac=1": ("privacy.marginals_frac",),
    "privacy.noise_seed=-1": ("privacy.noise_seed",),
    "train.arms=[dp]": ("train.arms", "with_dp"),
    "train.num_steps=0": ("train.num_steps",),
    "train.num_steps=1.5": ("train.num_steps", "1.5"),
    "train.gradients=ghost": ("train.gradients", "lora"),
    "model.dtype=float16": ("model.dtype", "bfloat16"),
    "model.lora_rank=0": ("model.lora_rank",),
    "generate.top_p=1.1": ("generate.top_p",),
    "generate.temperature=0": ("generate.temperature",),
    "evaluate.num_bootstrap=3": ("evaluate.num_bootstrap", "20"),
    "records.test_frac=0": ("records.test_frac",),
    "records.heldout_frac=0.9": ("records", "heldout_frac + test_frac"),
    "records.completion_template={text} {title}": ("completion_template",),
    "records.completion_template='{title}{text}'": ("completion_template", "separator"),
    "records.completion_template='{title} {text} {text}'": ("completion_template", "each once"),
    "records.prompt_template='{text} {category} {rating}'": ("prompt_template", "{text} is not allowed"),
    "records.prompt_template='{title} {category} {rating}'": ("prompt_template", "{title} is not allowed"),
    "records.prompt_template='{category!r} {rating}'": ("prompt_template", "{category}", "nothing else between its braces"),
    "records.completion_template='{title} {text:.5}'": ("completion_template", "{text}", "nothing else between its braces"),
    "records.prompt_template='{category}'": ("prompt_template", "{rating}"),
    "data.categories=[]": ("data.categories", "at least one"),
    "data.categories=[a, a]": ("data.categories", "none twice"),
    "data.delimiter='||'": ("data.delimiter",),
    "data.max_malformed_frac=2": ("data.max_malformed_frac",),
    "data.format=amazon_reviews_2023": ("data", "reviews"),
    "data.format=table": ("data", "reviews"),
    "engine=spark": ("engine.kind", "local", "ray"),
    "engine.address=here:1": ("engine", "address", "engine.kind=ray"),
    "tracking=mlflow": ("tracking", "wandb"),
}


@pytest.mark.parametrize("override", BAD_VALUES)
def test_a_bad_value_is_named_with_its_key(override):
    message = fails(overrides=[override])
    for word in BAD_VALUES[override]:
        assert word in message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("privacy.target_epsilom=1", ("privacy.target_epsilom", "unknown key", "did you mean target_epsilon?")),
        ("privcy.target_epsilon=1", ("privcy", "unknown key", "did you mean privacy?")),
        ("train.zzz=1", ("train.zzz: unknown key",)),
        ("privacy", ("an override looks like section.key=value",)),
        ("=3", ("an override looks like",)),
        ("privacy..delta=3", ("an override looks like",)),
        ("train.num_steps=[1", ("not valid YAML",)),
        ("tracking.wandb=1", ("tracking",)),
        ("privacy=3", ("privacy",)),
    ],
)
def test_an_override_that_cannot_be_meant(override, words):
    message = fails(overrides=[override])
    for word in words:
        assert word in message


def test_an_override_below_a_value_is_refused():
    assert "is a value, not a section" in fails(overrides=["tracking=none", "tracking.more=1"])


def test_mappings_and_templates_of_a_table():
    table = ["data.format=table", "data.reviews=r.csv"]
    full = "data.columns={rating: r, text: t, title: h, category: c}"
    assert "not mapped to a column" in fails(overrides=[*table, "data.columns={rating: r}"])
    assert "did you mean rating?" in fails(overrides=[*table, "data.columns={ratng: r, text: t, title: h, category: c}"])
    assert "categories" in fails(overrides=[*table, full])
    assert "product_id" in fails(overrides=[*table, full, "data.catalogue=p.csv", "data.catalogue_columns={product_id: a, title: b, category: c}"])
    assert load_config(None, [*table, full, "data.categories=[a, b]"]).data.columns["rating"] == "r"


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("privacy.delta=1e-5", "privacy.delta", 1e-5),
        ("privacy.delta=1E-6", "privacy.delta", 1e-6),
        ("privacy.target_epsilon=3", "privacy.target_epsilon", 3.0),
        ("train.arms=[no_dp]", "train.arms", ["no_dp"]),
        ("train.no_dp_learning_rate=null", "train.no_dp_learning_rate", None),
        ("train.no_dp_learning_rate=", "train.no_dp_learning_rate", None),
        ("data.categories=[a b, 'c']", "data.categories", ["a b", "c"]),
        ("report.title=a=b=c", "report.title", "a=b=c"),
        ("report.title='1e-5 %'", "report.title", "1e-5 %"),
        ("data.products_are_public=true", "data.products_are_public", True),
        ("privacy.noise_seed=0", "privacy.noise_seed", 0),
        ("records.heldout_frac=0", "records.heldout_frac", 0.0),
    ],
)
def test_an_override_means_what_it_says(override, path, value):
    config = load_config(None, [override])
    section, key = path.split(".")
    found = getattr(getattr(config, section), key)
    assert found == value
    assert type(found) is type(value)


def test_an_override_wins_over_the_file_and_the_last_one_over_the_first(tmp_path):
    path = written(tmp_path, "privacy: {target_epsilon: 2, delta: 1.0e-6}\n")
    config = load_config(path, ["privacy.target_epsilon=3", "privacy.target_epsilon=4"])
    assert (config.privacy.target_epsilon, config.privacy.delta) == (4.0, 1e-6)


def test_paths_count_from_the_file_or_from_where_the_user_stands(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = written(tmp_path, "data: {format: amazon_reviews_2023, reviews: a/r.jsonl, catalogue: /abs/m.jsonl}\n")
    assert load_config(path).data.reviews == str(tmp_path / "a/r.jsonl")
    assert load_config(path).data.catalogue == "/abs/m.jsonl"
    config = load_config(path, ["data.reviews=b.jsonl"])
    assert config.data.reviews == str(tmp_path / "here/b.jsonl")
    assert config.data.catalogue == "/abs/m.jsonl"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("is empty",)),
        ("# only a comment\n", ("is empty",)),
        ("- data\n- privacy\n", ("a config is a list of sections", "list")),
        ("just words\n", ("str",)),
        (b"privacy: {unit: \xff\xfe}\n", ("is not UTF-8",)),
        ("privacy:\n  delta: [1\n", ("c.yaml:3", "not valid YAML")),
        ("privacy:\n\tdelta: 1\n", ("c.yaml:2", "not valid YAML")),
        ("privacy: 3\n", ("privacy",)),
        ("privacy:\n  dleta: 1.0e-5\n", ("privacy.dleta", "did you mean delta?")),
        ("data: !!python/object/apply:os.getcwd []\n", ("not valid YAML",)),
    ],
)
def test_a_file_that_is_no_config(tmp_path, text, words):
    message = fails(written(tmp_path, text))
    assert "c.yaml" in message
    for word in words:
        assert word in message


def test_a_file_that_is_not_there_or_is_a_directory(tmp_path):
    assert "no such config file" in fails(tmp_path / "gone.yaml")
    assert "is a directory" in fails(tmp_path)


def test_a_column_may_be_the_unit():
    config = load_config(None, ["privacy.unit=column", "privacy.unit_column=household id"])
    assert (config.privacy.unit, config.privacy.unit_column) == ("column", "household id")
    assert load_config().privacy.unit_column is None


def test_a_wrong_unit_is_one_error_and_not_two():
    assert "more" not in fails(overrides=["privacy.unit=family", "privacy.unit_column=home"])


def test_several_errors_are_counted_not_listed():
    assert "; and 1 more" in fails(overrides=["privacy.delta=2", "train.num_steps=0"])


def test_the_separator_stands_between_title_and_text():
    assert completion_separator(" {title}\nReview: {text} end") == "\nReview: "


def test_a_config_cannot_be_changed():
    config = load_config()
    with pytest.raises(ValueError, match="frozen"):
        config.privacy.delta = 0.5


def test_an_error_of_several_sections_is_named_once():
    with pytest.raises(UsageError) as caught:
        load_config(None, ["train.method=private_prediction", "engine=ray"])
    assert str(caught.value).startswith("train.method: private_prediction runs in this process only")


CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_every_config_of_the_repository_is_read(path):
    config = load_config(path)
    assert config.privacy.target_epsilon > 0
    assert path.name in path.read_text(encoding="utf-8"), "its first lines say how it is run"


def test_an_adapter_to_start_from_must_be_declared_public_and_counts_from_the_file(tmp_path):
    path = tmp_path / "warm.yaml"
    path.write_text("train:\n  start_adapter: public/adapter\n")
    with pytest.raises(UsageError, match=r"start_adapter_is_public"):
        load_config(path)
    config = load_config(path, ["train.start_adapter_is_public=true"])
    assert config.train.start_adapter == str(tmp_path / "public/adapter")
