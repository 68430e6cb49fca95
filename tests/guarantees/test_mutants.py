"""Every pitfall that code can fall into is injected, one at a time, and caught; what catches it is named, and what it says.

A detector runs the program's real code and raises: because the program refuses, or because what it did is not what an independent computation here says
it must do. Each passes on the program as it is. KINDS has the strongest catch first: what only a test catches, no run of a user's would.
"""

import functools
import json
import re
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from penname.config import Config, ModelConfig, TrainConfig
from penname.errors import RunDirError
from penname.generate import conditioning as conditioning_module
from penname.generate import synthesize
from penname.generate.conditioning import release_conditioning
from penname.generate.synthesize import run_generate
from penname.model.adapter import attach_adapter
from penname.model.loss import record_losses
from penname.model.packing import PackedRows, enable_packing
from penname.model.tokenize import TokenizedRecord
from penname.pipeline import run_stages
from penname.privacy import accounting
from penname.privacy.certificate import SELF_CHECKS, verify_release
from penname.privacy.errors import PrivacyError, SelfCheckError
from penname.privacy.exponential import ExponentialDraws
from penname.privacy.exponential_checks import check_draws
from penname.privacy.gradients import LoraEngine, RowPass, trainable_parameters
from penname.privacy.keystream import Keystream
from penname.privacy.ledger import TRAINING_ID, Ledger, Promise
from penname.privacy.marginals import plan_marginals, release_histogram, release_unit_count
from penname.privacy.mechanism import DpSgd, GaussianRelease
from penname.privacy.noise import draw_gaussian
from penname.report.release import write_release
from penname.run_dir import ARTEFACTS, RunDir, read_json, read_rows, write_json, write_rows
from penname.schemas import RATINGS
from penname.template import RecordTemplate
from penname.train import train
from penname.train.arms import PrivateArm
from penname.train.layout import Layout
from penname.train.loop import ArmFiles, train_arm
from penname.train.train import run_self_checks
from tests.conftest import charged, make_tiny_llama
from tests.guarantees.mutants import MUTANTS, mutants_as_markdown, replace_everywhere
from tests.guarantees.test_accounting_oracle import convolve_steps, gaussian, sampled, solve_gaussian
from tests.guarantees.test_neighbouring_splits import RULES as SPLIT_RULES
from tests.guarantees.test_neighbouring_splits import make_review, moved_by_removing, place_rows
from tests.guarantees.test_noise_law import is_accepted

README = Path(__file__).parents[2] / "src/penname/privacy/README.md"
NUM_MUTANTS = 61


class RefusedError(Exception):
    """No release was made."""


class UnverifiedError(Exception):
    """`penname verify` says no."""


KIND_OF = {SelfCheckError: "self-check", RefusedError: "release", UnverifiedError: "verify", AssertionError: "test"}


# --- the runs that the detectors look at ------------------------------------------------------------------------------


class Bench:
    """Runs on a tiny model, each made once; a detector gets a copy."""

    def __init__(self, model_dir, folder):
        self.model_dir, self.folder = model_dir, folder

    def make_config(self, **privacy):
        return Config.model_validate(
            {
                "data": {"format": "sample", "sample_num_reviews": 200},
                "records": {"prompt_template": "{product_title}\n{category} {rating}:", "completion_template": " {title}|{text}"},
                "model": {"name": str(self.model_dir), "dtype": "float32", "lora_rank": 2},
                "privacy": {"target_epsilon": 0.5, "marginals_frac": 0.4, "l2_clip_norm": 0.05, **privacy},
                # Everybody in every step of a seeded run: its noise is calibrated in no time.
                "train": {
                    "arms": ["with_dp"],
                    "expected_batch_size": 1000 if "noise_seed" in privacy else 8,
                    "num_steps": 2,
                    "max_record_tokens": 160,
                    "physical_batch_tokens": 512,
                },
                "generate": {"num_records": 3, "max_new_tokens": 48, "max_draws_per_record": 40, "batch_size": 4, "redraw_faults": []},
            }
        )

    @functools.cached_property
    def prepared(self):
        """A run before its training, with a key that is always the same."""
        root = self.folder / "prepared"
        run_stages(self.make_config(), root, ("ingest", "records"))
        RunDir(root).path("noise_key").write_bytes(bytes(range(32)))
        return root

    @functools.cached_property
    def trained(self):
        return self._go_on("trained", self.prepared, "train", self.make_config())

    @functools.cached_property
    def generated(self):
        return self._go_on("generated", self.trained, "generate", self.make_config())

    @functools.cached_property
    def seeded(self):
        return self._go_on("seeded", self.prepared, "generate", self.make_config(noise_seed=3))

    def _go_on(self, name, start, stage, config):
        root = shutil.copytree(start, self.folder / name)
        go_on(config, root, stage)
        return root

    @functools.cache  # noqa: B019  one bench a module
    def find(self, detector, mutant=None):
        """What the detector says of the program with this mutant, as (kind, message); None: nothing."""
        with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir=self.folder) as folder:
            calls = mutant.inject(patch) if mutant else []
            try:
                DETECTORS[detector](self, Path(folder))
            except (AssertionError, RefusedError, UnverifiedError, PrivacyError) as error:
                found = (KIND_OF.get(type(error), "run time"), str(error))
            else:
                found = None
            assert calls or mutant is None, "the mutant was never called"
            return found


def go_on(config, root, stage):
    """The stages up to this one, as far as they are not done."""
    run_stages(config, root, ("ingest", "records", "train", "generate")[: 3 if stage == "train" else 4])


def remember(function):
    """The accountant's answers, kept: asking anew in every run would take longer than all else. A changed accountant is asked anew."""
    known = {}

    @functools.wraps(function)
    def ask(*args, **more):
        key = json.dumps([args, more, id(accounting._merge)], sort_keys=True)
        if key not in known:
            known[key] = function(*args, **more)
        return known[key]

    return ask


@pytest.fixture(scope="module")
def bench(letter_model_dir, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounting, "_compute_on_grid", remember(accounting._compute_on_grid))
        replace_everywhere(patch, "compute_epsilon_rdp", accounting.compute_epsilon_rdp, remember(accounting.compute_epsilon_rdp))
        bench = Bench(letter_model_dir, tmp_path_factory.mktemp("mutants"))
        # Before any mutant is there.
        assert bench.generated.is_dir()
        assert bench.seeded.is_dir()
        yield bench


# --- detectors: the self-check, and the steps of the training against the book ----------------------------------------

PAD, BROKEN_TOKEN = 2, 7
CLIP_NORM, BATCH_SIZE, NUM_STEPS, SAMPLING_PROB = 2.0, 3, 6, 0.25
# A step without units, steps of several physical batches, and the broken unit in one of them.
STEPS_KEY = Keystream.from_seed(10)
LAYOUT = Layout(64, PAD)
# Gradients longer than the bound.
MODEL_CONFIG = ModelConfig(lora_rank=2, lora_alpha=64)


def make_record(length, seed):
    ids = torch.randint(BROKEN_TOKEN + 1, 259, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return TokenizedRecord(ids, 3)


def break_record(record):
    """One whose gradient is not finite."""
    return TokenizedRecord([BROKEN_TOKEN, *record.token_ids[1:]], 3)


# The first user wrote the same three times, so that the gradients of the three point one way. Lengths differ much, so that tensors would.
UNITS = [[make_record(8, 1)] * 3, [make_record(31, 2)], [make_record(19, 3), make_record(24, 4)], [make_record(23, 5)], [make_record(5, 6)]]
UNITS += [[make_record(25, 7)], [make_record(28, 8)], [make_record(17, 9)]]
BROKEN_UNIT = [break_record(make_record(11, 10))]


def make_model(*, dtype=torch.float32, packs=True):
    base: Any = make_tiny_llama(tied=False)
    base = base.to(dtype).requires_grad_(False)
    if packs:
        assert enable_packing(base, max_tokens=64)
    return attach_adapter(base, MODEL_CONFIG, seed=1)


def check_self(dtype, bench, folder):
    model = make_model(dtype=dtype)
    mechanism = charged(DpSgd(2.0, SAMPLING_PROB, NUM_STEPS, CLIP_NORM, Keystream.from_seed(1)))
    results = run_self_checks(model, UNITS, PrivateArm.build(model, mechanism, engine_name="lora"), LAYOUT, MODEL_CONFIG)
    assert {result.name for result in results} <= set(SELF_CHECKS)


def flatten(tensors):
    return torch.cat([tensor.detach().reshape(-1).clone() for tensor in tensors])


def take_steps(folder):
    """Trains; returns what the optimizer had and got in each step, the seeds that were set, and the event that the ledger holds."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    seeds: list[int] = []

    class Watched(torch.optim.Adam):
        def step(self, closure=None):
            parameters = self.param_groups[0]["params"]
            seen.append((flatten(parameters), flatten([parameter.grad for parameter in parameters])))
            return super().step(closure)

    ledger = Ledger.open(folder / "ledger.jsonl", Promise(50.0, 1e-5, "user", "ADD_OR_REMOVE_ONE", "seed"))
    mechanism = DpSgd(2.0, SAMPLING_PROB, NUM_STEPS, CLIP_NORM, STEPS_KEY).charge(ledger, TRAINING_ID, inputs_sha256="aa")
    model = make_model()
    model.get_input_embeddings().weight.data[BROKEN_TOKEN] = torch.inf
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "Adam", Watched)
        patch.setattr(torch, "manual_seed", seeds.append)
        train_arm(
            model,
            [*UNITS, BROKEN_UNIT],
            PrivateArm.build(model, mechanism, engine_name="lora"),
            TrainConfig(expected_batch_size=BATCH_SIZE, num_steps=NUM_STEPS),
            ArmFiles(folder / "checkpoint", folder / "metrics.jsonl"),
            layout=LAYOUT,
            label="train",
            learning_rate=1e-2,
            inputs_sha256="aa",
            log=lambda row: None,
        )
    return seen, seeds, Ledger.read(folder / "ledger.jsonl").named_events[0][1]


def clip_slowly(model, weights, unit):
    """What one unit may add: the mean over its records of gradients computed one by one, clipped; nothing when it is not finite."""
    parameters = [parameter for _, parameter in trainable_parameters(model)]
    torch.nn.utils.vector_to_parameters(weights, parameters)
    grads = []
    for record in unit:
        ids = torch.tensor(record.token_ids)
        logits = model(input_ids=ids[None]).logits[0, record.num_prompt_tokens - 1 : -1]
        loss = functional.cross_entropy(logits, ids[record.num_prompt_tokens :])
        grads.append(torch.cat([grad.reshape(-1) for grad in torch.autograd.grad(loss, parameters)]).double())
    mean = torch.stack(grads).mean(0)
    norm = float(mean.norm())
    return mean * min(1.0, CLIP_NORM / norm) if np.isfinite(norm) else torch.zeros_like(mean)


def draw_by_the_book(event, step):
    return np.flatnonzero(STEPS_KEY.draw_uniforms("poisson_sampling", step, len(UNITS) + 1) < event["sampling_prob"])


def check_steps(bench, folder):
    seen, seeds, event = take_steps(folder)
    assert len(seen) == event["num_steps"], f"{len(seen)} optimizer steps, the ledger says {event['num_steps']}"
    from_key = [int(STEPS_KEY.draw_uniforms("dropout", step, 1)[0] * 2**53) for step in range(len(seen))]
    assert seeds == from_key, "the dropout masks do not come from the secret key"
    model = make_model(packs=False)
    for step, (weights, got) in enumerate(seen):
        total = torch.zeros(len(got), dtype=torch.float64)
        for unit in draw_by_the_book(event, step):
            total += clip_slowly(model, weights, UNITS[unit]) if unit < len(UNITS) else 0
        stddev = event["noise_multiplier"] * event["l2_sensitivity"]
        noise = torch.from_numpy(draw_gaussian(STEPS_KEY, purpose="dp_sgd", index=step, size=len(got), stddev=stddev))
        expected = (total + noise) / BATCH_SIZE
        error = float((got - expected).norm() / expected.norm())
        assert error < 1e-5, f"step {step}: the optimizer did not get the clipped sum with its noise, over the expected batch size: off by {error:.2g}"


# --- detectors: the stages --------------------------------------------------------------------------------------------


def check_on_disk(root, mechanism):
    """Called when a mechanism has touched the data, or said something of it."""
    if mechanism.keystream.source == "self-check":
        return
    path = root / "ledger.jsonl"
    entries = Ledger.read(path).entries if path.exists() else []
    charged_for = [entry["event"] for entry in entries if entry["key_commitment"] == mechanism.keystream.commitment]
    assert mechanism.event in charged_for, f"{mechanism.event['type']}: the data is touched, and its event is not on disk"


def watch_touches(patch, root):
    """Every touch of the data in this run is checked against the ledger's file."""

    def watch(method):
        def touch(self, *args, **more):
            # What the program itself says of it comes first.
            result = method(self, *args, **more)
            check_on_disk(root, self)
            return result

        return touch

    for owner, name in ((DpSgd, "draw_units"), (DpSgd, "release"), (GaussianRelease, "release")):
        patch.setattr(owner, name, watch(getattr(owner, name)))


def check_train_stage(bench, folder):
    root = shutil.copytree(bench.prepared, folder / "run")
    with pytest.MonkeyPatch.context() as patch:
        watch_touches(patch, root)
        go_on(bench.make_config(), root, "train")
    counts, promise = read_json(RunDir(root).path("records_counts")), Ledger.read(root / "ledger.jsonl").promise
    same = promise.privacy_unit == counts["privacy_unit"]
    assert same, f"the ledger promises for a {promise.privacy_unit}, the data is split by {counts['privacy_unit']}"


def check_delta(bench, folder):
    root = shutil.copytree(bench.prepared, folder / "run")
    num_units = read_json(RunDir(root).path("records_counts"))["num_units"]["train"]

    def charge(*args, **more):
        raise AssertionError("delta = 1/N comes as far as the ledger")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "charge_run", charge)
        with pytest.raises(PrivacyError, match=r"privacy\.delta: .* is too large"):
            go_on(bench.make_config(delta=1 / num_units), root, "train")


def check_release(config, root):
    """Makes the release and verifies it; what is in it is what may be there."""
    made = write_release(config, RunDir(root))
    if not made["releasable"]:
        raise RefusedError("; ".join(made["not_releasable_because"]))
    release = root / "release"
    try:
        verify_release(release)
    except PrivacyError as error:
        raise UnverifiedError(str(error)) from error
    names = {path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file() and path.parent.name != "adapter"}
    assert names == {"README.md", "certificate.json", "ledger.jsonl", Path(ARTEFACTS["synthetic_with_dp"].path).name}, (
        f"release/ holds files that are not RELEASABLE, or lacks some: {sorted(names)}"
    )


def run_and_release(start, stage, bench, folder, **privacy):
    """From `start` through train and generate to a release."""
    root = shutil.copytree(getattr(bench, start), folder / "run")
    go_on(bench.make_config(**privacy), root, stage)
    check_release(bench.make_config(**privacy), root)


def check_seeded(start, bench, folder):
    """A run with a seed is refused for that, and for nothing else."""
    try:
        run_and_release(start, "generate", bench, folder, noise_seed=3)
    except RefusedError as error:
        if str(error) != "sampling and noise come from a seed: whoever knows it can subtract the noise":
            raise
        return
    raise AssertionError("a run with a seed was released")


# --- detectors: marginals and generation ------------------------------------------------------------------------------


def check_marginals(bench, folder):
    """The law of both marginals' noise, for every cell."""
    count, histogram = plan_marginals(target_epsilon=0.5, delta=1e-5, max_records_per_unit=4, keystream=Keystream.from_seed(2))
    moved = np.bincount([3, 3, 3, 3], minlength=9)
    assert np.linalg.norm(moved) <= histogram.event["l2_sensitivity"], "one unit moves the histogram by more than the sensitivity of its event"
    num_cells, num_each, stddev = 2_000, 1_000, histogram.event["noise_multiplier"] * histogram.event["l2_sensitivity"]
    shares = release_histogram(charged(histogram), cells=np.repeat(np.arange(num_cells), num_each).tolist(), num_cells=num_cells)
    # All cells are far from zero, so that nothing was cut off, and their total is as good as exact.
    assert is_accepted(shares * num_cells * num_each - num_each, stddev), "the histogram does not have the noise that is accounted for"
    counts = [
        release_unit_count(charged(GaussianRelease("count_units", count.noise_multiplier, 1.0, Keystream.from_seed(seed))), num_units=1000)
        for seed in range(300)
    ]
    assert 0.8 < np.std(counts) / count.noise_multiplier < 1.2, "the count does not have the noise that is accounted for"
    shares = release_histogram(charged(histogram), cells=np.repeat(np.arange(0, num_cells, 2), 100).tolist(), num_cells=num_cells)
    assert 0.4 < np.mean(shares[1::2] > 0) < 0.6, "whether a cell is empty can be seen"


def check_conditioning(bench, folder):
    run_dir = RunDir(folder)
    rows = [{"rating": 5, "category": "Cases"}] * 60 + [{"rating": 1, "category": "Cases"}] * 20
    write_rows(run_dir.path("train_records"), rows)
    domain = ["Cases", "Chargers"]
    counts = {"category_domain": domain, "privacy_unit": "user", "unit_column": None, "max_records_per_unit": 2}
    write_json(run_dir.path("records_counts"), counts)
    with pytest.MonkeyPatch.context() as patch:
        watch_touches(patch, folder)
        cells = release_conditioning(bench.make_config(), run_dir)["cells"]
    assert [(cell["rating"], cell["category"]) for cell in cells] == [(r, c) for r in RATINGS for c in domain], "the cells are not those of the public domain"
    exact = Counter((row["rating"], row["category"]) for row in rows)
    assert any(cell["share"] != exact[cell["rating"], cell["category"]] / len(rows) for cell in cells), "the shares are the exact ones"


def check_prompts(bench, folder):
    """What generation writes is a function of what is public or released: its prompts are, and it needs no private file."""
    root = shutil.copytree(bench.generated, folder / "run")
    run_dir, config = RunDir(root), bench.make_config()
    template = RecordTemplate.from_config(config.records, has_products=True)
    catalogue = conditioning_module.read_catalogue(run_dir.path("catalogue"))
    allowed = {template.fill_prompt(rating=r, category=product.category, product_title=product.title) for r in RATINGS for product in catalogue}
    prompts: list[str] = []

    def encode(tokenizer, prompt):
        prompts.append(prompt)
        return tokenizer(prompt)["input_ids"]

    def generate():
        run_dir.path("synthetic_with_dp").unlink()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(synthesize, "encode_prompt", encode)
            run_generate(config, run_dir)
        return list(read_rows(run_dir.path("synthetic_with_dp")))

    rows = generate()
    assert prompts
    assert set(prompts) <= allowed, "a prompt is not made of public and released attributes alone"
    for name, artefact in ARTEFACTS.items():
        if artefact.visibility == "PRIVATE" and artefact.path.startswith(("0_", "1_", "2_")) and (root / artefact.path).is_file():
            run_dir.path(name).unlink()
    try:
        again = generate()
    except RunDirError as error:
        raise AssertionError("generation reads private files after the histogram is released") from error
    assert again == rows, "what is generated depends on private files"


# --- detectors: data and account --------------------------------------------------------------------------------------

PEOPLE = [f"user-{i}" for i in range(20)]
# Two write the same; each has more reviews than the bound.
REVIEWS = [make_review(name, "home", f"text {(i + j) % 19}", product_title=f"Product {j}") for j in range(5) for i, name in enumerate(PEOPLE)]


def check_neighbours(bench, folder):
    for name in PEOPLE:
        assert not moved_by_removing(REVIEWS, "user", name), "without one user, rows of others change"
    sizes = Counter(unit_id for unit_id, _ in place_rows(REVIEWS, "user"))
    assert max(sizes.values()) <= SPLIT_RULES.max_records_per_user, "a user has more records than the bound"


@functools.cache
def convolve_once(noise_multiplier, sampling_prob, num_steps, delta):
    return convolve_steps(noise_multiplier, sampling_prob, num_steps, delta)


def check_accounting(bench, folder):
    spent = accounting.compute_epsilon([sampled(1.0, 1e-2, 1000)], delta=1e-5)
    expected = convolve_once(1.0, 1e-2, 1000, 1e-5)
    assert spent == pytest.approx(expected, rel=0.01), f"the accountant and our own convolution disagree: {spent} and {expected}"
    spent = accounting.compute_epsilon_in_two_parts([gaussian(4.0)], [gaussian(2.0)], delta=1e-5)
    expected = solve_gaussian(4.0, 1e-5 * accounting.FIRST_DELTA_FRAC) + solve_gaussian(2.0, 1e-5 * (1 - accounting.FIRST_DELTA_FRAC))
    assert spent == pytest.approx(expected, rel=0.01), f"the accountant and the sum of two exact curves disagree: {spent} and {expected}"


# --- detectors: draws -------------------------------------------------------------------------------------------------


def check_words(bench, folder):
    """The self-check of private prediction, and what its draws cost, by a formula of our own."""
    target, delta, num_draws = 4.0, 1e-5, 40
    key = Keystream.from_seed(44)
    draws = ExponentialDraws.calibrate(target_epsilon=target, delta=delta, other_events=[], temperature=0.9, num_draws=num_draws, keystream=key)
    public = np.log(np.array([0.4, 0.3, 0.2, 0.1]))
    said = torch.log_softmax(torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 4, dim=-1)

    def score_units(indices):
        rows = said[list(indices)]
        return rows, [draws.bound_scores(public, rows[:, step], expected_units=6.0) for step in range(2)]

    check_draws(charged(draws), score_units, num_probe_units=3)
    rho = num_draws * (draws.linf_sensitivity / draws.temperature) ** 2 / 2
    orders = np.linspace(1.05, 100, 40_000)
    spent = float((orders * rho + np.log1p(-1 / orders) - np.log(delta * orders) / (orders - 1)).min())
    assert spent == pytest.approx(target, rel=0.02), f"the accountant and the formula of zCDP disagree: {target} and {spent}"


DETECTORS = {
    "self_check": functools.partial(check_self, torch.float32),
    "self_check_in_bfloat16": functools.partial(check_self, torch.bfloat16),
    "steps": check_steps,
    "train_stage": check_train_stage,
    "delta": check_delta,
    "whole_run": functools.partial(run_and_release, "prepared", "generate"),
    "generate_stage": functools.partial(run_and_release, "trained", "generate"),
    "release": functools.partial(run_and_release, "generated", "generate"),
    "seeded_run": functools.partial(check_seeded, "prepared"),
    "seeded_release": functools.partial(check_seeded, "seeded"),
    "marginals": check_marginals,
    "conditioning": check_conditioning,
    "prompts": check_prompts,
    "neighbours": check_neighbours,
    "accounting": check_accounting,
    "draws": check_words,
}


# --- every mutant is caught -------------------------------------------------------------------------------------------


def is_caught(bench, mutant):
    found = bench.find(mutant.detector, mutant)
    return found is not None and found[0] == mutant.kind and mutant.message in found[1]


@functools.cache
def rounding_depends_on_length():
    """Whether on this processor, in bfloat16, a unit's gradient depends on how long the tensor is that it is computed in."""
    model: Any = make_model(dtype=torch.bfloat16)
    engine = LoraEngine(model)

    def compute(unit, num_tokens):
        rows = PackedRows.pack(unit, num_tokens=num_tokens, pad_id=PAD)
        row_pass = RowPass(lambda: record_losses(model, rows), rows.row_lengths, [0] * len(unit))
        return engine.unit_gradients([row_pass], 1)[0].clone()

    sizes = [sum(len(record.token_ids) for record in unit) for unit in UNITS]
    return any(
        not torch.equal(compute(unit, size), compute(unit, size + more)) for unit, size in zip(UNITS, sizes, strict=True) for more in (1, *sizes, sum(sizes))
    )


def is_harmless_here(mutant):
    """The one pitfall that only some processors have: others multiply rows in bfloat16 in one way, however many there are."""
    return mutant.detector == "self_check_in_bfloat16" and not rounding_depends_on_length()


def test_the_steps_hold_what_the_detector_looks_for():
    draws = [draw_by_the_book({"sampling_prob": SAMPLING_PROB}, step) for step in range(NUM_STEPS)]
    assert 0 in [len(draw) for draw in draws[1:-1]]
    assert len(UNITS) in np.concatenate(draws[:-1])
    many = [len(LAYOUT.cut([[*UNITS, BROKEN_UNIT][i] for i in draw])) for draw in draws]
    assert max(many[: many.index(0)]) > 1


@pytest.mark.parametrize("name", DETECTORS)
def test_each_detector_passes_on_what_is_right(bench, name):
    assert bench.find(name) is None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.words)
def test_every_mutant_is_caught(bench, mutant):
    found = bench.find(mutant.detector, mutant)
    if is_harmless_here(mutant):
        assert found is None, found
        return
    assert found is not None, "was not caught"
    assert found[0] == mutant.kind, found
    assert mutant.message in found[1], found


def test_the_number_caught_is_the_number_injected(bench):
    assert len(MUTANTS) == len({mutant.words for mutant in MUTANTS}) == NUM_MUTANTS
    assert sum(is_caught(bench, mutant) for mutant in MUTANTS) == NUM_MUTANTS - sum(is_harmless_here(mutant) for mutant in MUTANTS)
    assert {mutant.detector for mutant in MUTANTS} == set(DETECTORS)


@pytest.mark.parametrize("detector", ["self_check", "steps"])
def test_a_change_that_changes_nothing_is_caught_by_nobody(bench, detector):
    stddev = "self.noise_multiplier * self.l2_clip_norm"
    same = replace(MUTANTS[0], place="privacy.mechanism:DpSgd.release", old=stddev, new=f"1.0 * {stddev}")
    assert bench.find(detector, same) is None


def test_a_mutant_whose_text_is_gone_says_so():
    with pytest.raises(LookupError, match="stands 0 times in it"), pytest.MonkeyPatch.context() as patch:
        replace(MUTANTS[0], old="no such text").inject(patch)


def test_the_docs_list_every_mutant():
    table = re.search(r"<!-- mutants -->\n(.*?)<!-- /mutants -->", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert table is not None
    assert table.group(1).strip() == mutants_as_markdown().strip()
