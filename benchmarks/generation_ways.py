"""The texts that every engine writes, and the ways to write them in this process: ours, `generate` of transformers, the matrix products alone."""

from __future__ import annotations

import csv
import gzip
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from penname.config import RecordsConfig
from penname.generate.decode import Request, Rules, find_prefix
from penname.generate.nucleus import Sampling
from penname.generate.packed_linear import PackedLinear
from penname.generate.slots import ROWS, SlotDecoder
from penname.ingest.sample_data import METADATA_FILE, write_sample_data
from penname.model.base import split_head
from penname.model.tokenize import encode_prompt
from penname.template import RecordTemplate

TEMPERATURE, TOP_P = 0.8, 0.9
_PRODUCT_REPEATS = 7


@dataclass(frozen=True)
class Work:
    """What every engine writes."""

    prompts: list[tuple[int, ...]]
    lengths: list[int]
    limit: int
    length_source: str

    def first(self, count: int, *, limit: int | None = None) -> Work:
        """The first `count` texts, cut at `limit` tokens."""
        limit = self.limit if limit is None else limit
        return replace(self, prompts=self.prompts[:count], lengths=[min(length, limit) for length in self.lengths[:count]], limit=limit)

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt and text together."""
        return max(len(prompt) + length for prompt, length in zip(self.prompts, self.lengths, strict=True))


def make_work(tokenizer: Any, *, num_texts: int, limit: int, seed: int, real_file: Path) -> Work:
    """Prompts from the marketplace, lengths from the reviews."""
    template, rng = RecordTemplate.from_config(RecordsConfig(), has_products=True), random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        write_sample_data(Path(name), num_reviews=2000, seed=seed)
        products = [json.loads(line) for line in (Path(name) / METADATA_FILE).read_text(encoding="utf-8").splitlines()]
    products = [product for product in products if product["title"] and product["categories"]]
    prompts = []
    for _ in range(num_texts):
        product = rng.choice(products)
        text = template.fill_prompt(rating=rng.randint(1, 5), category=product["categories"][-1], product_title=product["title"])
        prompts.append(tuple(encode_prompt(tokenizer, text)))
    if real_file.is_file():
        with gzip.open(real_file, "rt", encoding="utf-8", newline="") as handle:
            rows = [row for row in csv.DictReader(handle) if row["Review Text"].strip() and row["Title"].strip()]
        texts = [template.fill_completion(title=row["Title"], text=row["Review Text"]) for row in rng.sample(rows, num_texts)]
        lengths, source = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts], "completions of the clothing reviews"
    else:
        lengths, source = [round(rng.lognormvariate(4.3, 0.6)) for _ in range(num_texts)], "log-normal law: the clothing reviews are not here"
    return Work(prompts, [max(4, min(limit, length)) for length in lengths], limit, source)


class FixedLengths:
    """Goes before a decoder of penname: the length of every text is imposed, by the second number of its key; the rest is the decoder's."""

    lengths: dict[int, int]

    def _finish_reason(self, text: Any, token: int) -> str | None:
        text.token_ids.append(token)
        return "stop" if len(text.token_ids) >= self.lengths[text.request.key[1]] else None


class FixedSlotDecoder(FixedLengths, SlotDecoder):
    """Ours."""


def write_with(decoder: Any, work: Work, *, seeds: Sequence[int] | None = None, prefix: Sequence[int] = ()) -> list[list[int]]:
    """Tokens of every text by a decoder with `FixedLengths`, in the order of the work; a text's seed is its place unless given."""
    seeds = range(len(work.prompts)) if seeds is None else seeds
    decoder.lengths = dict(zip(seeds, work.lengths, strict=True))
    written: dict[int, list[int]] = {}
    requests = [Request((1, seed, 1), prompt) for seed, prompt in zip(seeds, work.prompts, strict=True)]

    def keep(request: Request, text: Any) -> None:
        written[request.key[1]] = text.token_ids

    decoder.decode(requests, keep, prefix=prefix)
    return [written[seed] for seed in seeds]


class Ours:
    """What `penname generate` runs, on texts of given lengths."""

    def __init__(self, model: Any, tokenizer: Any, work: Work) -> None:
        """Opens the decoder for this work or less. The model must not be used for anything else afterwards."""
        rules = Rules(Sampling(TEMPERATURE, TOP_P, work.limit), tokenizer.eos_token_id, tuple(tokenizer.all_special_ids))
        decoder = FixedSlotDecoder.open(model, rules, num_slots=ROWS, longest=max(map(len, work.prompts)) + work.limit)
        if decoder is None:
            raise RuntimeError("the model cannot be given slots; nothing to measure")
        # The beginning of the whole run: a text may depend on it, and it must not change with the texts that are written together.
        self.model, self._decoder, self._prefix = model, decoder, find_prefix(work.prompts)

    def write(self, work: Work, *, seeds: Sequence[int] | None = None) -> list[list[int]]:
        """See `write_with`."""
        return write_with(self._decoder, work, seeds=seeds, prefix=self._prefix)


def generate_in_batches(model: Any, tokenizer: Any, work: Work, *, batch_size: int, is_sorted: bool, **sampling: Any) -> int:
    """`generate` of transformers: pads, and waits for the longest of each batch. Returns the tokens of the texts."""
    order = list(range(len(work.prompts)))
    if is_sorted:
        order.sort(key=lambda i: (work.lengths[i], len(work.prompts[i])))
    total = 0
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        longest = max(len(work.prompts[i]) for i in batch)
        filling = [longest - len(work.prompts[i]) for i in batch]
        token_ids = torch.tensor([[tokenizer.eos_token_id] * more + list(work.prompts[i]) for i, more in zip(batch, filling, strict=True)])
        mask = torch.tensor([[0] * more + [1] * (longest - more) for more in filling])
        lengths = torch.tensor([work.lengths[i] for i in batch])
        with torch.inference_mode():
            output = model.generate(
                input_ids=token_ids,
                attention_mask=mask,
                do_sample=True,
                temperature=TEMPERATURE,
                max_new_tokens=int(lengths.max()),
                suppress_tokens=list(tokenizer.all_special_ids),
                pad_token_id=tokenizer.eos_token_id,
                **sampling,
            )
        if output.shape[1] - longest != int(lengths.max()):
            raise RuntimeError("generate stopped before the longest text was finished")
        total += int(lengths.sum())
    return total


def time_products(model: Any, packed: Any, work: Work) -> dict[str, float]:
    """Seconds that the matrix products of this work take alone, in our shape, as they are and with packed weights."""
    prefix = len(find_prefix(work.prompts))
    num_text_rows = sum(work.lengths)
    num_prompt_rows = prefix + sum(len(prompt) - prefix - 1 for prompt in dict.fromkeys(work.prompts))
    _, head = split_head(model)
    plain = [module for module in model.modules() if type(module) is torch.nn.Linear and module is not head]
    packed_head = packed.get_output_embeddings()
    quick = [module for module in packed.modules() if isinstance(module, PackedLinear) and module is not packed_head]
    inputs = {size: torch.randn(ROWS, size).to(head.weight.dtype) for size in {module.in_features for module in [*plain, head]}}
    sizes = [module.in_features for module in plain]

    def run_plain() -> None:
        for module in plain:
            functional.linear(inputs[module.in_features], module.weight)

    def run_packed() -> None:
        for module, size in zip(quick, sizes, strict=True):
            module(inputs[size])

    def time_both(run_body: Callable[[], None], run_head: Callable[[], Any]) -> float:
        begin = time.perf_counter()
        run_body()
        body = time.perf_counter() - begin
        run_head()
        whole = time.perf_counter() - begin
        return (body * (num_text_rows + num_prompt_rows) + (whole - body) * num_text_rows) / ROWS

    times: dict[str, list[float]] = {"plain": [], "packed": []}
    with torch.inference_mode():
        for _ in range(_PRODUCT_REPEATS):
            times["plain"].append(time_both(run_plain, lambda: functional.linear(inputs[head.in_features], head.weight)))
            times["packed"].append(time_both(run_packed, lambda: packed_head(inputs[head.in_features])))
    return {name: sorted(values)[_PRODUCT_REPEATS // 2] for name, values in times.items()}


@torch.inference_mode()
def score_texts(model: Any, work: Work, texts: Sequence[Sequence[int]]) -> float:
    """Mean log-probability of a token of these texts after their prompts, by the model itself: an engine that computes another model is far off."""
    total, count = 0.0, 0
    for prompt, text in zip(work.prompts, texts, strict=True):
        logits = model(input_ids=torch.tensor([[*prompt, *text]]), use_cache=False).logits[0, len(prompt) - 1 : -1]
        total += float(functional.log_softmax(logits.float(), dim=1).gather(1, torch.tensor(text)[:, None]).sum())
        count += len(text)
    return total / count
