"""The cards of a release: what whoever gets the records, or the adapter, has to know. Made from released figures and public settings alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penname import __version__
from penname.config import Config
from penname.privacy.certificate import DATA_SET_LEDGER_NAME, LEDGER_NAME
from penname.privacy.ledger import TRAINING_ID
from penname.template import RecordTemplate

_TAGS = ["synthetic", "differential-privacy", "penname"]
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")

_INTRODUCTION = (
    "{count:,} reviews that nobody wrote. A language model was trained on private reviews with a differential-privacy guarantee, and then wrote these."
)
_VOTED_INTRODUCTION = (
    "{count:,} reviews that nobody wrote. A language model wrote texts, private reviews voted for those most like them with a differential-privacy guarantee, "
    "and with the best as examples the model wrote these."
)
_PREDICTED_INTRODUCTION = (
    "{count:,} reviews that nobody wrote. A language model wrote them with a few private reviews at a time as its examples: each word was drawn from what "
    "these say together, with a bound on what each may say, and with a differential-privacy guarantee."
)
_INTRODUCTIONS = {"dp_sgd": _INTRODUCTION, "private_evolution": _VOTED_INTRODUCTION, "private_prediction": _PREDICTED_INTRODUCTION}
_LEARNED = {
    "dp_sgd": "- `adapter/`: the LoRA adapter that wrote them, with a card of its own",
    "private_evolution": "- `population.jsonl`: the examples that the model wrote them after, with their noisy votes",
    "private_prediction": "- `population.jsonl`: the texts that were written with private reviews as examples; the reviews are these, and others after them",
}
_CHECK = (
    "`penname verify .` in this folder recomputes epsilon from the ledger and compares every file with its hash. "
    "It needs neither the model nor the private data."
)
_USES = (
    "For developing and testing software and models in place of the private reviews. The reviews are not true: products, defects and opinions "
    "in them may be made up, and what is rare in the private data is rarer here or missing. Do not use them to learn about a person, a seller "
    "or a product.\n\n"
    "How close they are to the private reviews, and what a model that learns from them loses, is in the report of the run. Those figures were "
    "measured on the private reviews, are not covered by the promise, and are therefore not here."
)
_LEDGER = "Every use of the private reviews is in the ledger; the accounting is explained in the certificate and in penname's documentation."

_ROW = {
    "record_id": "name of the record: its place among the synthetic ones, nobody's id",
    "arm": "`with_dp`",
    "rating": "1 to 5, drawn from a noisy histogram and given to the model",
    "category": "drawn with the rating",
    "product_title": "from the public catalogue, where there is one; given to the model",
    "title": "written by the model",
    "text": "written by the model",
    "finish_reason": "`stop`; `length` where the text was cut at the limit",
    "num_draws": "how often a text was drawn until one had the form of a record",
}


def make_dataset_card(config: Config, certificate: Mapping[str, Any], *, records: str, num_records: int) -> str:
    """The card of the synthetic records, which is also the README of the release.

    Args:
      config: Public settings.
      certificate: Of this release; RELEASABLE.
      records: Name of their file.
      num_records: In it.
    Returns:
      Markdown with the front matter that model hubs read. RELEASABLE.
    """
    from huggingface_hub import DatasetCardData

    data = DatasetCardData(
        pretty_name="Synthetic reviews with differential privacy",
        tags=_TAGS,
        task_categories=["text-generation", "text-classification"],
        size_categories=[_size(num_records)],
        configs=[{"config_name": "default", "data_files": records}],
    )
    shared = [f"- `{DATA_SET_LEDGER_NAME}`: the same for all runs on this data up to now, which share one budget"] if certificate["data_set"] else []
    body = [
        "# Synthetic reviews with differential privacy",
        _INTRODUCTIONS[config.train.method].format(count=num_records),
        "## The promise",
        *_promise(certificate),
        "## Check it",
        _CHECK,
        "\n".join(
            [
                f"- `{records}`: the reviews, one JSON object a line",
                _LEARNED[config.train.method],
                f"- `{LEDGER_NAME}`: every use of the private data, written before it happened",
                *shared,
                "- `certificate.json`: the promise, what was spent, and the hash of every file here",
            ]
        ),
        "## A row",
        _table(("field", "what"), [(f"`{name}`", words) for name, words in _ROW.items()]),
        "## How it was made",
        *_making(config, certificate),
        "## What it is for, and what not",
        _USES,
        *_limits(certificate),
        "## Licence\n\nNot set: whoever publishes this sets it.",
    ]
    return _card(data, body)


_LOAD_BASE = {
    "none": "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\nbase = AutoModelForCausalLM.from_pretrained({name})",
    "nf4": "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig\n\n"
    'nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)\n'
    "base = AutoModelForCausalLM.from_pretrained({name}, quantization_config=nf4)",
}
"""How a stranger loads the base that the adapter was trained on, by `model.quantization`."""


def make_model_card(config: Config, certificate: Mapping[str, Any], *, has_products: bool) -> str:
    """The card of the adapter.

    Args:
      config: Public settings.
      certificate: Of this release; RELEASABLE.
      has_products: Whether prompts name a product.
    Returns:
      Markdown with the front matter that model hubs read. RELEASABLE.
    """
    from huggingface_hub import ModelCardData

    model, template = config.model, RecordTemplate.from_config(config.records, has_products=has_products)
    # A folder of this machine must not be looked for on a hub.
    base = model.name if _HUB_NAME.fullmatch(model.name) and not Path(model.name).exists() else None
    data = ModelCardData(base_model=base, library_name="peft", pipeline_tag="text-generation", tags=[*_TAGS, "lora"])
    layers = f"the last {model.top_layers} layers" if model.top_layers else "all layers"
    body = [
        "# An adapter that writes synthetic reviews, with differential privacy",
        f"LoRA for `{_one_line(model.name)}`: rank {model.lora_rank}, alpha {model.lora_alpha:g}, on {', '.join(model.target_modules)} of {layers}."
        + (" The base was in four bits (NF4) while it trained." if model.quantization == "nf4" else ""),
        "## The promise",
        *_promise(certificate),
        "It holds for whatever is computed with this adapter, too, unless the private reviews are used once more.",
        "## How to use it",
        _fence(
            f"{_LOAD_BASE[model.quantization].format(name=repr(model.name))}\ntokenizer = AutoTokenizer.from_pretrained({model.name!r})\n"
            'model = PeftModel.from_pretrained(base, "adapter")',
            "python",
        ),
        "It knows one form. The prompt:",
        _fence(template.prompt),
        "And what it continues it with:",
        _fence(template.completion),
        "## How it was made",
        *_making(config, certificate),
        *_limits(certificate),
        "## Licence\n\nNot set: whoever publishes this sets it; that of the base model goes on.",
    ]
    return _card(data, body)


def _promise(certificate: Mapping[str, Any]) -> list[str]:
    promise = certificate["promise"]
    return [
        "Whether or not any one unit was among the private reviews, everything in this release could have come out with nearly the same probability.",
        _table(
            ("what", "how much"),
            [
                ("unit", _one_line(certificate["unit_definition"])),
                ("neighbouring data sets", f"{certificate['neighboring_relation']}: they differ in all records of one unit"),
                ("epsilon", f"{promise['target_epsilon']:g} promised, {certificate['epsilon_spent']:.4g} spent"),
                ("delta", f"{promise['delta']:g}"),
            ],
        ),
        "Smaller is more private. Epsilon is a ceiling for every attack, not what attacks reach.",
    ]


def _making(config: Config, certificate: Mapping[str, Any]) -> list[str]:
    training = next(event["mechanism"] for event in certificate["events"] if event["name"] == TRAINING_ID)
    writing = config.generate
    rows = [
        ("base model", f"`{_one_line(config.model.name)}`"),
        *_describe_method(config, training),
        ("drawing of words", f"temperature {writing.temperature:g}, top-p {writing.top_p:g}, min-p {writing.min_p:g}"),
        ("longest text", f"{writing.max_new_tokens} tokens"),
        ("penname", __version__),
    ]
    return [_table(("what", "how"), rows), _LEDGER]


def _describe_method(config: Config, event: Mapping[str, Any]) -> list[tuple[str, str]]:
    if event["type"] == "exponential":
        return [
            (
                "words",
                f"private prediction, at most {event['num_draws']:,} a text, each of the {config.predict.top_k:,} likeliest without private reviews",
            ),
            ("how far a unit moves the score of a word", f"at most {event['linf_sensitivity']:.6g}"),
            ("temperature of these words", f"{event['temperature']:g}"),
        ]
    drawn, num_steps = f"{config.train.expected_batch_size:,} units a {{}} expected, Poisson sampled", event["num_steps"]
    if config.train.method == "private_evolution":
        first = "candidates", f"private evolution, {num_steps:,} rounds of {config.evolve.num_candidates:,}, " + drawn.format("round")
    else:
        first = "training", f"DP-SGD, {num_steps:,} steps, " + drawn.format("step")
    return [
        first,
        ("sampling probability", f"{event['sampling_prob']:.6g}"),
        ("clip norm of what a unit says", f"{event['l2_sensitivity']:g}"),
        ("noise multiplier", f"{event['noise_multiplier']:.6g}"),
    ]


def _limits(certificate: Mapping[str, Any]) -> list[str]:
    return ["## What is assumed public", _bullets(certificate["assumed_public"]), "## What is not covered", _bullets(certificate["not_covered"])]


def _card(data: Any, body: Sequence[str]) -> str:
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(body) + "\n"


def _size(num_records: int) -> str:
    return next((words for limit, words in _SIZES if num_records < limit), "n>10M")


def _table(head: tuple[str, str], rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"| {left} | {right} |" for left, right in [head, ("---", "---"), *rows])


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_one_line(line)}" for line in lines)


def _one_line(text: str) -> str:
    """Settings are anybody's words: no line break and no pipe, which would leave the cell or the bullet."""
    return " ".join(text.replace("|", "/").replace("`", "'").split())


def _fence(text: str, language: str = "") -> str:
    """A code block that its text cannot end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    mark = "`" * max(3, longest + 1)
    return f"{mark}{language}\n{text}\n{mark}"
