"""Does what one record adds to a DP-SGD step depend on the records beside it? Padded batches against packed rows, on the default model.

For some records: the gradient alone, then among others, in batches of several sizes and lengths, each way. The figure is the largest
relative change of a record's gradient, ||g_among - g_alone|| / ||g_alone||, and, since the noise is made for one clip norm, how far the
clipped sum over the other units moves, in clip norms, when one unit joins their batch. Both should be 0.
Padded: what transformers computes from a right-padded batch, one loss a record (nothing is divided by the batch).

  python benchmarks/batch_independence.py [--quick] [--seed S] [--real FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import torch
from sample_data_variety import REAL_FILE, environment, read_real
from torch.nn import functional

from penname.config import ModelConfig
from penname.model.adapter import attach_adapter
from penname.model.base import load_base_model
from penname.model.loss import record_losses
from penname.model.packing import PackedRows, enable_packing
from penname.model.tokenize import TokenizedRecord, encode_record
from penname.privacy.gradients import LoraEngine, RowPass, trainable_parameters

ROOT = Path(__file__).resolve().parents[1]
RESULT_FILE = ROOT / "benchmarks" / "results" / "batch_independence.json"
_TILE_TOKENS = 512
_LORA = ModelConfig(top_layers=None)


def load(dtype: str, *, packs: bool) -> tuple[Any, Any]:
    """The default model with an adapter that is not at its start, where half of its gradients vanish."""
    model, tokenizer = load_base_model(_LORA.model_copy(update={"dtype": dtype}))
    if packs:
        assert enable_packing(model, max_tokens=224)
    adapted = attach_adapter(model, _LORA, seed=1)
    generator = torch.Generator().manual_seed(0)
    for _, parameter in trainable_parameters(adapted):
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    return adapted, tokenizer


def padded_gradients(model: Any, records: list[TokenizedRecord]) -> torch.Tensor:
    """Each record's own gradient, (B, P), out of one right-padded batch: as many backward passes as records through one graph."""
    length = max(len(record.token_ids) for record in records)
    token_ids = torch.tensor([record.token_ids + [0] * (length - len(record.token_ids)) for record in records])
    logits = model(input_ids=token_ids, use_cache=False).logits.float()
    rows = []
    for row, record in enumerate(records):
        first, last = record.num_prompt_tokens, len(record.token_ids)
        loss = functional.cross_entropy(logits[row, first - 1 : last - 1], torch.tensor(record.token_ids[first:]))
        grads = torch.autograd.grad(loss, [parameter for _, parameter in trainable_parameters(model)], retain_graph=True)
        rows.append(torch.cat([grad.reshape(-1).float() for grad in grads]))
    return torch.stack(rows)


def packed_gradients(model: Any, records: list[TokenizedRecord]) -> torch.Tensor:
    """Each record's own gradient, (B, P), as penname trains: packed into one tile, or several where they do not fit."""
    num_tokens = _TILE_TOKENS * -(-sum(len(record.token_ids) for record in records) // _TILE_TOKENS)
    rows = PackedRows.pack(records, num_tokens=num_tokens, pad_id=0)
    row_pass = RowPass(lambda: record_losses(model, rows), rows.row_lengths, range(len(records)))
    return LoraEngine(model).unit_gradients([row_pass], len(records))[0]


def compare(compute: Any, model: Any, batches: list[list[TokenizedRecord]]) -> dict[str, Any]:
    """The first record of each batch is the newcomer; the others are computed alone, among themselves, and with it."""
    changes: list[float] = []
    moves: list[float] = []
    num_equal = num_compared = 0
    for newcomer, *others in batches:
        before = compute(model, others)
        after = compute(model, [newcomer, *others])[1:]
        alone = torch.stack([compute(model, [record])[0] for record in others])
        for among in (before, after):
            changes.extend(((among - alone).norm(dim=1) / alone.norm(dim=1)).tolist())
            num_equal += sum(map(torch.equal, among, alone))
            num_compared += len(others)
        clipped = [grads / grads.norm(dim=1, keepdim=True) for grads in (before, after)]
        moves.append(float((clipped[1].double().sum(0) - clipped[0].double().sum(0)).norm()))
    return {
        "largest_relative_change_of_a_gradient": max(changes),
        "median_relative_change_of_a_gradient": sorted(changes)[len(changes) // 2],
        "largest_move_of_the_others_sum_in_clip_norms": max(moves),
        "num_units_in_the_others_sum": max(len(batch) - 1 for batch in batches),
        "bit_equal_frac": num_equal / num_compared,
    }


def make_batches(tokenizer: Any, real_file: Path, *, num_batches: int, seed: int) -> list[list[TokenizedRecord]]:
    """Batches of real reviews (or of made-up words where there are none) that fit one tile with the newcomer."""
    rng = random.Random(seed)
    texts = (
        [" ".join(words) for words in read_real(real_file)[:2000]] if real_file.is_file() else [" ".join(["fine"] * rng.randint(10, 90)) for _ in range(2000)]
    )
    batches: list[list[TokenizedRecord]] = []
    while len(batches) < num_batches:
        batch: list[TokenizedRecord] = []
        room = _TILE_TOKENS
        while True:
            record = encode_record(tokenizer, "Review:", " " + rng.choice(texts), max_tokens=224)
            if record is None or len(record.token_ids) > room:
                break
            batch.append(record)
            room -= len(record.token_ids)
        if len(batch) >= 3:
            batches.append(batch)
    return batches


def main() -> None:
    """Measures, writes the result file, prints the largest changes as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two batches, and no result file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", type=Path, default=REAL_FILE)
    args = parser.parse_args()
    result: dict[str, Any] = {
        "script": "benchmarks/batch_independence.py",
        **environment(("torch", "transformers", "peft")),
        "seed": args.seed,
        "num_threads": torch.get_num_threads(),
        "tile_tokens": _TILE_TOKENS,
    }
    if not args.real.is_file():
        print(f"{args.real}: is missing; made-up words are used instead", file=sys.stderr)
    for dtype in ("bfloat16", "float32"):
        for name, compute in (("padded", padded_gradients), ("packed", packed_gradients)):
            model, tokenizer = load(dtype, packs=name == "packed")
            batches = make_batches(tokenizer, args.real, num_batches=2 if args.quick else 6, seed=args.seed)
            result[f"{dtype}_{name}"] = compare(compute, model, batches)
            print(json.dumps({f"{dtype}_{name}": result[f"{dtype}_{name}"]}), flush=True)
    if not args.quick:
        RESULT_FILE.parent.mkdir(parents=True, exist_ok=True)
        RESULT_FILE.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    ways = ("bfloat16_padded", "bfloat16_packed", "float32_padded", "float32_packed")
    print(json.dumps({way: result[way]["largest_relative_change_of_a_gradient"] for way in ways}))


if __name__ == "__main__":
    main()
