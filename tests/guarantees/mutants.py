"""The pitfalls that code can fall into, each as a change of a few words in the program's own text.

A mutant is what a developer might commit: text of one function, replaced. The function is compiled anew from its own source, so a mutant whose text is
no longer there says so, and one that was never called is not counted as caught.
"""

from __future__ import annotations
import __future__

import functools
import importlib
import inspect
import sys
import textwrap
from dataclasses import dataclass
from typing import Any, Literal

import pytest

Kind = Literal["self-check", "run time", "release", "verify", "test"]

KINDS: dict[Kind, str] = {
    "self-check": "the self-check, before or after the first step",
    "run time": "the program, while it runs",
    "release": "the making of the release, which is refused",
    "verify": "`penname verify`",
    "test": "a test",
}
"""Who catches a mutant, strongest first."""


@dataclass(frozen=True)
class Mutant:
    """One pitfall, as it could be written."""

    pitfall: str
    """Its number in field-notes.md, or `issue`."""
    words: str
    """What was injected, for people."""
    place: str
    """module:function or module:Class.method, under penname."""
    old: str
    """Stands once in that function."""
    new: str
    detector: str
    """Name of a detector of test_mutants.py."""
    kind: Kind
    message: str
    """A part of what the detector says."""

    def inject(self, patch: pytest.MonkeyPatch) -> list[str]:
        """Puts the changed function in the place of the program's; the list grows with every call of it."""
        module_name, _, path = self.place.partition(":")
        owner: Any = importlib.import_module(f"penname.{module_name}")
        *outer, name = path.split(".")
        for part in outer:
            owner = getattr(owner, part)
        calls: list[str] = []
        original = vars(owner)[name]
        changed = _watch(_rewrite(original, name, self.old, self.new), calls)
        if outer:
            patch.setattr(owner, name, changed)
            return calls
        replace_everywhere(patch, name, original, changed)
        return calls


def replace_everywhere(patch: pytest.MonkeyPatch, name: str, original: Any, changed: Any) -> None:
    """Puts a function in the place of another wherever that was imported by its name."""
    for module in [module for key, module in sys.modules.items() if key.split(".")[0] in ("penname", "tests")]:
        if vars(module).get(name) is original:
            patch.setattr(module, name, changed)


def _rewrite(original: Any, name: str, old: str, new: str) -> Any:
    """The function (or property, or class method) compiled from its own text with `old` replaced."""
    function: Any = original.fget if isinstance(original, property) else getattr(original, "__func__", original)
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(old) != 1:
        raise LookupError(f"mutant of {name}: {old!r} stands {source.count(old)} times in it, not once; write the mutant anew")
    code = compile(source.replace(old, new), f"<mutant of {name}>", "exec", __future__.annotations.compiler_flag, dont_inherit=True)
    made: dict[str, Any] = {}
    exec(code, function.__globals__, made)
    return made[name]


def _watch(changed: Any, calls: list[str]) -> Any:
    if isinstance(changed, property):
        return property(_watch(changed.fget, calls))
    if isinstance(changed, classmethod):
        return classmethod(_watch(changed.__func__, calls))

    @functools.wraps(changed)
    def call(*args: Any, **more: Any) -> Any:
        calls.append(changed.__name__)
        return changed(*args, **more)

    return call


def mutants_as_markdown() -> str:
    """The table for the docs."""
    lines = ["| pitfall | what was injected | caught by |", "| --- | --- | --- |"]
    lines += [f'| {mutant.pitfall} | {mutant.words} | {KINDS[mutant.kind]}: "{mutant.message}" |' for mutant in MUTANTS]
    return "\n".join(lines) + "\n"


# --- sampling, losses, batches ----------------------------------------------------------------------------------------

_DRAW = "return np.concatenate(drawn)"
_RELEASE = "update = arm.mechanism.release(step, total) / config.expected_batch_size"

_SAMPLING = [
    Mutant(
        "1",
        "batches of one size, from passes over shuffled units",
        "privacy.sampling:draw_poisson_units",
        _DRAW,
        "size = round(sampling_prob * num_units)\n"
        '    order = keystream.draw_uniforms("poisson_sampling", step * size // num_units, num_units).argsort()\n'
        "    return np.sort(np.roll(order, -step * size)[:size])",
        "self_check",
        "self-check",
        "the number of units in a batch does not vary as independent draws do",
    ),
    Mutant(
        "1",
        "one draw of units for all steps",
        "privacy.sampling:draw_poisson_units",
        '"poisson_sampling", step,',
        '"poisson_sampling", 0,',
        "self_check",
        "self-check",
        "the draws of two steps are not independent",
    ),
    Mutant(
        "1",
        "the exact number of units, instead of the noisy one, in the sampling probability",
        "run_privacy:charge_run",
        "budget, noisy_num_units=noisy_num_units)",
        "budget, noisy_num_units=num_units)",
        "whole_run",
        "release",
        "train/with_dp is not charged as this config computes it",
    ),
    Mutant(
        "2",
        "a loss that divides by the tokens of the batch",
        "model.loss:record_losses",
        "losses.mean() for losses",
        "losses.sum() * len(counts) / sum(counts) for losses",
        "self_check",
        "self-check",
        "a record's loss changes with the other records of its batch",
    ),
    Mutant(
        "2",
        "tensors as long as what is in them, in bfloat16: the rounding of one unit depends on the others",
        "train.layout:Layout.lay_out",
        "self.tile_tokens * math.ceil(sum(map(count_tokens, batch)) / self.tile_tokens)",
        "sum(map(count_tokens, batch))",
        "self_check_in_bfloat16",
        "self-check",
        "self-check batch_mates",
    ),
    Mutant(
        "3",
        "a step without units is skipped",
        "train.loop:run_step",
        "    total, losses = summer.sum(",
        '    if not drawn:\n        return {"step": step, "loss": None}\n    total, losses = summer.sum(',
        "steps",
        "test",
        "optimizer steps, the ledger says",
    ),
    Mutant(
        "4",
        "noise once a physical batch",
        "train.loop:run_step",
        _RELEASE,
        "update = sum(arm.mechanism.release(step, summer.sum(batch)[0]) for batch in summer.layout.cut(drawn)) / config.expected_batch_size",
        "steps",
        "run time",
        "was released with another sum",
    ),
    Mutant(
        "4",
        "noise in the sum of a physical batch, and again in the release",
        "train.arms:PrivateArm.sum_batch",
        "return self.mechanism.sum_units(unit_grads), losses",
        "total = self.mechanism.sum_units(unit_grads)\n"
        "    total.value.add_(self.mechanism.l2_clip_norm * torch.randn(total.value.shape))\n"
        "    return total, losses",
        "self_check",
        "self-check",
        "what a unit adds to the sum changes",
    ),
    Mutant(
        "4",
        "the mean over physical batches instead of the sum",
        "train.layout:sum_units",
        "return total, torch.cat(losses)",
        "total.value.div_(max(1, len(layout.cut(units))))\n    return total, torch.cat(losses)",
        "steps",
        "test",
        "the optimizer did not get the clipped sum with its noise",
    ),
    Mutant(
        "4",
        "divided by the number of units that were drawn",
        "train.loop:run_step",
        _RELEASE,
        "update = arm.mechanism.release(step, total) / max(1, len(drawn))",
        "steps",
        "test",
        "the optimizer did not get the clipped sum with its noise",
    ),
]

# --- units and their bounds -------------------------------------------------------------------------------------------

_UNITS = [
    Mutant(
        "5",
        "copies are dropped across users",
        "ingest.duplicates:drop_copies",
        "subset=CONTENT",
        'subset=("title", "text")',
        "neighbours",
        "test",
        "without one user, rows of others change",
    ),
    Mutant(
        "5",
        "records are named by their place in the file",
        "records.split:name_records",
        "[sha256(content).digest()[:_NAME_BYTES] for content in contents]",
        "[i.to_bytes(_NAME_BYTES) for i in range(len(contents))]",
        "neighbours",
        "test",
        "without one user, rows of others change",
    ),
    Mutant(
        "5",
        "the bound on a user's records is not applied",
        "records.split:bound_units",
        "bound_contributions(record_ids, max_records=rules.max_records_per_user, seed=rules.seed)",
        "range(len(places))",
        "neighbours",
        "test",
        "a user has more records than the bound",
    ),
    Mutant(
        "6",
        "a record is promised protection where the data is split by user",
        "run_privacy:plan_budget",
        'privacy_unit=counts["privacy_unit"]',
        'privacy_unit="record"',
        "train_stage",
        "test",
        "the ledger promises for a record, the data is split by user",
    ),
    Mutant(
        "7",
        "delta = 1/N is accepted",
        "privacy.budget:check_delta",
        "num_units**-1.1",
        "num_units**-1.0",
        "delta",
        "test",
        "delta = 1/N comes as far as the ledger",
    ),
    Mutant(
        "issue",
        "each record of a user is clipped, then summed",
        "train.arms:PrivateArm.sum_batch",
        "unit_grads, losses = self.engine.unit_gradients(passes, num_units)",
        "from dataclasses import replace\n"
        "    from itertools import count\n"
        "    numbers = count()\n"
        "    passes = [replace(row_pass, row_units=[next(numbers) for _ in row_pass.row_units]) for row_pass in passes]\n"
        "    unit_grads, losses = self.engine.unit_gradients(passes, next(numbers))",
        "self_check",
        "self-check",
        "the clipped sum moves by more than l2_clip_norm",
    ),
    Mutant(
        "issue",
        "each layer is clipped to the whole bound",
        "train.arms:PrivateArm.sum_batch",
        "return self.mechanism.sum_units(unit_grads), losses",
        "bounds = [*self.engine._offsets.values(), self.engine.num_params]\n"
        "    sizes = [end - begin for begin, end in zip(bounds, bounds[1:])]\n"
        "    parts = [self.mechanism.sum_units(part) for part in unit_grads.split(sizes, 1)]\n"
        "    return BoundedSum(torch.cat([part.value for part in parts]), self.mechanism.l2_clip_norm, num_units, 0), losses",
        "self_check",
        "self-check",
        "the clipped sum moves by more than l2_clip_norm",
    ),
    Mutant(
        "issue",
        "the gradients of one batch stay in the memory that the next one uses",
        "privacy.gradients:_RowProducts._add",
        "place.copy_(product) if is_first else place.add_(product)",
        "place.add_(product)",
        "self_check",
        "self-check",
        "self-check batch_mates: what a unit adds to the sum changes",
    ),
    Mutant(
        "issue",
        "nothing is clipped",
        "privacy.clipping:clip_and_sum",
        "(min(1.0, bound / norm) if norm else 1.0)",
        "1.0",
        "self_check",
        "self-check",
        "the clipped sum moves by more than l2_clip_norm",
    ),
    Mutant(
        "issue",
        "clipped to one and a half times the bound",
        "privacy.clipping:clip_and_sum",
        "bound = l2_clip_norm * (1 - _ROUNDING_MARGIN)",
        "bound = l2_clip_norm * 1.5",
        "self_check",
        "self-check",
        "the clipped sum moves by more than l2_clip_norm",
    ),
    Mutant(
        "3",
        "one unit whose gradient is not finite makes the whole sum NaN",
        "privacy.clipping:clip_and_sum",
        " if math.isfinite(norm) else 0.0)",
        ")",
        "steps",
        "test",
        "the optimizer did not get the clipped sum with its noise",
    ),
]

# --- noise, adapters --------------------------------------------------------------------------------------------------

_NOISE = [
    Mutant(
        "issue",
        "noise scaled by 1 instead of the clip norm",
        "privacy.mechanism:DpSgd.release",
        "stddev = self.noise_multiplier * self.l2_clip_norm",
        "stddev = self.noise_multiplier",
        "self_check",
        "self-check",
        "the noise does not have the mean and standard deviation that are accounted for",
    ),
    Mutant(
        "issue",
        "noise on the first step only",
        "privacy.mechanism:DpSgd.release",
        "noise = draw_gaussian(",
        "noise = (step == 0) * draw_gaussian(",
        "self_check",
        "self-check",
        "the noise does not have the mean and standard deviation that are accounted for",
    ),
    Mutant(
        "issue",
        "no noise on the last step",
        "privacy.mechanism:DpSgd.release",
        "noise = draw_gaussian(",
        "noise = (step < self.num_steps - 1) * draw_gaussian(",
        "self_check",
        "self-check",
        "the noise does not have the mean and standard deviation that are accounted for",
    ),
    Mutant(
        "15",
        "the noise of the first step in all steps",
        "privacy.mechanism:DpSgd.release",
        "index=step",
        "index=0",
        "self_check",
        "self-check",
        "the noise of two steps is correlated",
    ),
    Mutant(
        "15",
        "random numbers that do not depend on the secret key",
        "privacy.keystream:Keystream.iterate_uniforms",
        "hmac.digest(self._key,",
        "hmac.digest(bytes(KEY_BYTES),",
        "self_check",
        "self-check",
        "self-check sampler",
    ),
    Mutant(
        "15",
        "dropout masks from the seed in the config, which is public",
        "train.loop:run_step",
        "arm.mechanism.draw_dropout_seed(step)",
        "config.seed + step",
        "steps",
        "test",
        "the dropout masks do not come from the secret key",
    ),
    Mutant(
        "15",
        "a run with a seed says that its key is from the operating system",
        "privacy.keystream:Keystream.from_seed",
        'source="seed"',
        'source="operating_system"',
        "seeded_run",
        "release",
        "the ledger's promise is not that of the config",
    ),
    Mutant(
        "15",
        "a run with a seed is called RELEASABLE",
        "privacy.certificate:_find_obstacles",
        'ledger.promise.noise_source != "operating_system"',
        "False",
        "seeded_release",
        "verify",
        "its noise comes from a seed",
    ),
    Mutant(
        "13",
        "the optimizer holds copies of the adapter's weights",
        "train.loop:train_arm",
        "[parameter for _, parameter in trainable_parameters(model)]",
        "[torch.nn.Parameter(parameter.detach().clone()) for _, parameter in trainable_parameters(model)]",
        "train_stage",
        "self-check",
        "self-check adapters_moved: the first step did not change",
    ),
    Mutant(
        "13",
        "a weight of the base model trains",
        "model.adapter:attach_adapter",
        "return adapted",
        "adapted.get_output_embeddings().weight.requires_grad_(True)\n    return adapted",
        "self_check",
        "self-check",
        "lm_head.weight would train",
    ),
]

# --- the account ------------------------------------------------------------------------------------------------------

_ACCOUNT = [
    Mutant(
        "issue",
        "the training is not charged before it begins",
        "run_privacy:_charge",
        ".charge(book, TRAINING_ID, inputs_sha256=inputs_sha256)",
        "",
        "train_stage",
        "run time",
        "a poisson_sampled_gaussian event is not charged",
    ),
    Mutant(
        "issue",
        "an event is written when the next one comes, after its release",
        "privacy.ledger:Ledger.spend",
        "_append(self.path, _seal(entry))",
        "self.entries and _append(self.path, _seal(self.entries[-1]))",
        "train_stage",
        "test",
        "its event is not on disk",
    ),
    Mutant(
        "issue",
        "events are kept in memory and never written",
        "privacy.ledger:Ledger.spend",
        "_append(self.path, _seal(entry))",
        "pass",
        "whole_run",
        "run time",
        "lacks count_units, but 2_train/unit_count.json was made under it",
    ),
    Mutant(
        "issue",
        "the event says half the steps",
        "privacy.mechanism:DpSgd.event",
        '"num_steps": self.num_steps',
        '"num_steps": self.num_steps // 2',
        "steps",
        "run time",
        "is not covered by an event of 3 steps",
    ),
    Mutant(
        "issue",
        "half the steps are charged",
        "privacy.mechanism:DpSgd.charge",
        "self.event,",
        '{**self.event, "num_steps": self.num_steps // 2},',
        "steps",
        "run time",
        "is for another event or another key than this mechanism's",
    ),
    Mutant(
        "issue",
        "as many steps again after the budget",
        "train.loop:train_arm",
        "for step in range(start, num_steps):",
        "for step in range(start, 2 * num_steps):",
        "steps",
        "run time",
        "step 6 is not covered by an event of 6 steps",
    ),
    Mutant(
        "issue",
        "as many steps again, under the old numbers",
        "train.loop:train_arm",
        "for step in range(start, num_steps):",
        "for step in [*range(start, num_steps), *range(num_steps)]:",
        "steps",
        "run time",
        "was released with another sum",
    ),
    Mutant(
        "issue",
        "the noise of the training is calibrated without the histogram",
        "privacy.budget:Budget._calibrate_training",
        "other_events=[self.histogram.event]",
        "other_events=[]",
        "whole_run",
        "run time",
        "histogram/rating_category does not fit",
    ),
    Mutant(
        "issue",
        "the training is accounted for as if its sampling probability did not depend on the noisy count",
        "privacy.accounting:compute_epsilon_in_two_parts",
        "if not first or not rest:",
        "if True:",
        "accounting",
        "test",
        "the accountant and the sum of two exact curves disagree",
    ),
    Mutant(
        "14",
        "the accountant counts no more than 100 steps",
        "privacy.accounting:_merge",
        'event.get("num_steps", 1)',
        'min(event.get("num_steps", 1), 100)',
        "accounting",
        "test",
        "the accountant and our own convolution disagree",
    ),
    Mutant(
        "issue",
        "a self-check is left out",
        "privacy.selfcheck:check_mechanism",
        "        check_sampler(mechanism),\n",
        "",
        "whole_run",
        "release",
        "self-check sampler was not made",
    ),
]

# --- marginals, generation, release -----------------------------------------------------------------------------------

_MARGINALS = [
    Mutant(
        "8",
        "count and histogram without noise",
        "privacy.mechanism:GaussianRelease.release",
        "return value + draw_gaussian(",
        "return value + 0 * draw_gaussian(",
        "marginals",
        "test",
        "the histogram does not have the noise that is accounted for",
    ),
    Mutant(
        "8",
        "no noise in the cells that nobody is in",
        "privacy.marginals:release_histogram",
        "noisy = np.maximum(release.release(counts), 0.0)",
        "noisy = np.where(counts > 0, np.maximum(release.release(counts), 0.0), 0.0)",
        "marginals",
        "test",
        "whether a cell is empty can be seen",
    ),
    Mutant(
        "8",
        "the noise of the histogram is made for one record a user",
        "privacy.marginals:plan_marginals",
        "float(max_records_per_unit)",
        "1.0",
        "marginals",
        "test",
        "one unit moves the histogram by more than the sensitivity",
    ),
    Mutant(
        "8",
        "the exact histogram, instead of the charged one",
        "generate.conditioning:release_conditioning",
        'if "with_dp" in config.train.arms:',
        "if False:",
        "generate_stage",
        "release",
        "conditioning.json does not come from the histogram that is charged",
    ),
    Mutant(
        "8",
        "the exact histogram, under the name and the charge of the noisy one",
        "generate.conditioning:release_conditioning",
        "release_histogram(histogram, cells=_find_cells(train, domain), num_cells=len(domain))",
        "np.bincount(_find_cells(train, domain), minlength=len(domain)) / len(_find_cells(train, domain))",
        "conditioning",
        "test",
        "the shares are the exact ones",
    ),
    Mutant(
        "9",
        "the categories are those of the private records",
        "generate.conditioning:release_conditioning",
        'categories: list[str] = read_json(run_dir.path("records_counts"))["category_domain"]',
        'categories = sorted({row["category"] for row in read_rows(train)})',
        "conditioning",
        "test",
        "the cells are not those of the public domain",
    ),
]

_RELEASE_FOLDER = [
    Mutant(
        "8",
        "the title of a real review in a prompt",
        "generate.synthesize:run_generate",
        'products = read_catalogue(run_dir.path("catalogue"))',
        "from penname.run_dir import read_rows\n"
        "    from penname.schemas import Product\n"
        '    products = [Product("", row["title"], row["category"]) for row in read_rows(run_dir.path("train_records"))]',
        "prompts",
        "test",
        "a prompt is not made of public and released attributes alone",
    ),
    Mutant(
        "8",
        "a real record as an example in every prompt",
        "generate.synthesize:run_generate",
        "template = RecordTemplate.from_config(config.records, has_products=bool(products))",
        "from dataclasses import replace\n"
        "    from penname.run_dir import read_rows\n"
        "    template = RecordTemplate.from_config(config.records, has_products=bool(products))\n"
        '    row = next(read_rows(run_dir.path("train_records")))\n'
        '    template = replace(template, prompt=row["prompt"] + row["completion"] + template.prompt)',
        "prompts",
        "test",
        "a prompt is not made of public and released attributes alone",
    ),
    Mutant(
        "11",
        "synthetic records that equal a real one are left out",
        "generate.synthesize:_write_set",
        "ordered = [rows[condition.record_id] for condition in conditions]",
        "from penname.run_dir import read_rows\n"
        '    real = {(row["title"], row["text"]) for row in read_rows(RunDir(target.parent.parent).path("train_records"))}\n'
        "    ordered = [rows[c.record_id] for c in conditions if (rows[c.record_id].title, rows[c.record_id].text) not in real]",
        "prompts",
        "test",
        "generation reads private files after the histogram is released",
    ),
    Mutant(
        "11",
        "the losses on private records are copied to release/",
        "report.release:_copy_releasable",
        "    shutil.copyfile(synthetic, folder / synthetic.name)\n",
        '    shutil.copyfile(synthetic, folder / synthetic.name)\n    shutil.copyfile(run_dir.path("train_metrics_with_dp"), folder / "losses.jsonl")\n',
        "release",
        "test",
        "release/ holds files that are not RELEASABLE",
    ),
    Mutant(
        "issue",
        "the last line of the ledger is lost before the release is made",
        "report.release:write_release",
        "    account = _read_account(config, run_dir)\n",
        '    path = run_dir.path("ledger")\n'
        '    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))\n'
        "    account = _read_account(config, run_dir)\n",
        "release",
        "run time",
        "lacks histogram/rating_category",
    ),
    Mutant(
        "issue",
        "a ledger without its last line is copied to release/",
        "report.release:_copy_releasable",
        'shutil.copyfile(run_dir.path("ledger"), folder / LEDGER_NAME)',
        '(folder / LEDGER_NAME).write_bytes(b"".join(run_dir.path("ledger").read_bytes().splitlines(keepends=True)[:-1]))',
        "release",
        "verify",
        "events is not what the ledger says",
    ),
    Mutant(
        "issue",
        "one byte of the synthetic records is changed after they were certified",
        "report.release:write_release",
        "write_json(folder / CERTIFICATE_NAME, certificate)",
        "write_json(folder / CERTIFICATE_NAME, certificate)\n"
        '            text = folder / run_dir.path("synthetic_with_dp").name\n'
        "            text.write_bytes(bytes([text.read_bytes()[0] ^ 1]) + text.read_bytes()[1:])",
        "release",
        "verify",
        "has changed since it was certified",
    ),
]

# --- draws of private prediction --------------------------------------------------------------------------------------

_DRAWS = [
    Mutant(
        "issue",
        "what a record says of a word is not cut",
        "privacy.exponential:ExponentialDraws.bound_scores",
        "np.clip(moved, -bound, bound)",
        "moved",
        "draws",
        "self-check",
        "a score moves by more than linf_sensitivity",
    ),
    Mutant(
        "issue",
        "what records say is divided by the number that are there",
        "privacy.exponential:ExponentialDraws.bound_scores",
        "total * step / expected_units",
        "total * step / max(1, len(said))",
        "draws",
        "self-check",
        "a score moves by more than linf_sensitivity",
    ),
    Mutant(
        "issue",
        "words are drawn at half the temperature",
        "privacy.exponential:ExponentialDraws.draw",
        "scores.value, self.temperature)",
        "scores.value, self.temperature / 2)",
        "draws",
        "self-check",
        "the draws do not follow the temperature that is accounted for",
    ),
    Mutant(
        "issue",
        "one random number for all words of a text",
        "privacy.exponential:_draw",
        'draw_uniforms(f"{purpose}/{group}", place, 1)',
        'draw_uniforms(f"{purpose}/{group}", 0, 1)',
        "draws",
        "self-check",
        "two texts are drawn from the same random numbers",
    ),
    Mutant(
        "issue",
        "the event of a text counts one word",
        "privacy.exponential:ExponentialDraws.event",
        '"num_draws": self.num_draws',
        '"num_draws": 1',
        "draws",
        "run time",
        "is not covered by an event of 1 draws a unit",
    ),
    Mutant(
        "issue",
        "the accountant takes half of what a word tells of a record",
        "privacy.accounting:_merge",
        '(event["linf_sensitivity"] / event["temperature"])',
        '(event["linf_sensitivity"] / event["temperature"] / 2)',
        "draws",
        "test",
        "the accountant and the formula of zCDP disagree",
    ),
]

MUTANTS = (*_SAMPLING, *_UNITS, *_NOISE, *_ACCOUNT, *_MARGINALS, *_RELEASE_FOLDER, *_DRAWS)
