"""What people said, summed up: shares an arm, wins, agreement, and the rules of the form metrics beside them. Written for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from penname.evaluate.bootstrap import Interval, resample
from penname.evaluate.human.agreement import alpha_with_interval, cohen_kappas
from penname.evaluate.human.errors import RatingsError
from penname.evaluate.human.form_rules import FORM_RULES, FormRule, make_form_rules
from penname.evaluate.human.questions import CATEGORIES, FITS, GOOD, NATURALNESS, ORIGINS, PREFERENCES, Judgement, Preference
from penname.evaluate.human.ratings import RATERS_PER_RECORD, Answer, Ratings
from penname.evaluate.human.resampling import TwoWayResamples, interval_or_none
from penname.evaluate.human.sample import RatingSample, read_sample
from penname.evaluate.samples import seeded_generator
from penname.run_dir import RunDir, write_json
from penname.schemas import MetricResult

SUMMARY_VERSION = 1
ALL = "all"
"""The arm of figures about the raters, which belong to no arm."""
NUM_BOOTSTRAP = 1000
_OWEN = "Owen (2007), bootstrap over raters and records; arXiv:0712.1111"
_KRIPPENDORFF = "Krippendorff (2011), Computing Krippendorff's Alpha-Reliability"
_COHEN = "Cohen (1960), Educational and Psychological Measurement 20, 37-46"
Direction = Literal["higher", "lower", "none"]


@dataclass(frozen=True)
class HumanSummary:
    """Everything that is shown of the answers. PRIVATE, like what they are about; it names no rater."""

    sample_sha256: str
    num_raters: int
    num_judged: dict[str, int]
    """arm -> records with an answer."""
    counts: dict[str, dict[str, int]]
    """arm -> category -> records of which at least half of the raters say so; several may apply to one record."""
    forms: dict[str, dict[str, dict[str, float]]]
    """fault -> arm -> `people` (share of judgements) and `rule` (share of records that were judged)."""
    notes: list[str]
    """What a reader must know: fewer raters than needed, a small sample."""
    metrics: list[MetricResult]


def summarise_ratings(
    sample: RatingSample,
    singles: Sequence[Answer],
    pairs: Sequence[Answer],
    *,
    rules: Mapping[str, FormRule] = FORM_RULES,
    seed: int = 1,
    num_bootstrap: int = NUM_BOOTSTRAP,
) -> HumanSummary:
    """Sums up the answers to one sample.

    Args:
      sample: What was judged. PRIVATE.
      singles, pairs: Each rater's latest answers. PRIVATE.
      rules: Fault -> what stands beside people.
      seed: Of every resample.
      num_bootstrap: Resamples behind every interval.
    Raises:
      RatingsError: nobody has answered yet.
    """
    if not singles and not pairs:
        raise RatingsError("nobody has judged a record of this run yet; open its page with `penname serve`")
    raters = sorted({answer.rater for answer in [*singles, *pairs]})
    table = _Singles(sample, singles, raters, rules, seed, num_bootstrap) if singles else None
    metrics = table.describe_arms() + table.describe_raters() if table else []
    metrics += _describe_pairs(sample, pairs, raters, seed, num_bootstrap)
    return HumanSummary(
        sample_sha256=sample.sha256,
        num_raters=len(raters),
        num_judged=table.num_judged if table else dict.fromkeys(sample.arms, 0),
        counts=table.count_categories() if table else {},
        forms=table.compare_forms() if table else {},
        notes=_write_notes(sample, singles, pairs, raters),
        metrics=metrics,
    )


class _Singles:
    """The answers to records as arrays, one row an answer."""

    def __init__(
        self, sample: RatingSample, answers: Sequence[Answer], raters: list[str], rules: Mapping[str, FormRule], seed: int, num_bootstrap: int
    ) -> None:
        self.sample, self.rules, self.seed, self.num_bootstrap = sample, rules, seed, num_bootstrap
        given = [answer.answer for answer in answers]
        self.given = [answer for answer in given if isinstance(answer, Judgement)]
        self.numbers = np.array([answer.subject for answer in answers])
        arms = np.array([record.arm for record in sample.records])
        self.arm_of = arms[self.numbers - 1]
        self.subjects = np.unique(self.numbers, return_inverse=True)[1]
        judges = np.array([raters.index(answer.rater) for answer in answers])
        self.resamples = TwoWayResamples(self.subjects, judges, rng=seeded_generator(seed, "human/records"), num_bootstrap=num_bootstrap)
        self.ticks = {name: np.array([name in answer.categories for answer in self.given], dtype=np.float64) for name in CATEGORIES}
        self.taken_for_real = np.array([answer.origin == "real" for answer in self.given], dtype=np.float64)
        self.num_judged = {arm: len(np.unique(self.numbers[self.arm_of == arm])) for arm in sample.arms}
        self.note = f"; {_say_raters(len(raters))}"

    def describe_arms(self) -> list[MetricResult]:
        """Shares and means of every arm; the reference is what real text gets."""
        natural = np.array([answer.naturalness for answer in self.given], dtype=np.float64)
        fits = np.array([answer.fits == "yes" for answer in self.given], dtype=np.float64)
        knows = np.array([answer.fits != "unsure" for answer in self.given])
        found: list[MetricResult] = []
        for name in CATEGORIES:
            direction: Direction = "higher" if name == GOOD else "lower"
            found += self._describe(f"human_{name}_frac", self.ticks[name], direction)
        found += self._describe("human_naturalness_mean", natural, "higher", bounds=(1.0, 5.0))
        found += self._describe("human_fits_frac", fits, "higher", among=knows)
        found += self._describe("human_taken_for_real_frac", self.taken_for_real, "higher")
        return found + self._describe_origin()

    def _describe(
        self, name: str, values: np.ndarray, direction: Direction, *, bounds: tuple[float, float] = (0.0, 1.0), among: np.ndarray | None = None
    ) -> list[MetricResult]:
        found, reference = [], None
        for arm in self.sample.arms:
            chosen = (self.arm_of == arm) & (among if among is not None else True)
            if not chosen.any():
                continue
            value, interval = self.resamples.describe(values, chosen, bounds)
            reference = value if arm == "real" else reference
            found.append(_make(name, arm, value, interval, reference, direction, len(np.unique(self.numbers[chosen])), _OWEN + self.note))
        return found

    def _describe_origin(self) -> list[MetricResult]:
        """How well people tell an arm from real text: the mean of both shares of right answers; a coin gets 0.5."""
        found = []
        for arm in self.sample.arms:
            ours, real = self.arm_of == arm, self.arm_of == "real"
            if arm == "real" or not ours.any() or not real.any():
                continue
            right = np.where(real, self.taken_for_real, 1 - self.taken_for_real)
            value = float((right[ours].mean() + right[real].mean()) / 2)
            interval = interval_or_none(value, (self.resamples.share(right, ours) + self.resamples.share(right, real)) / 2, (0.0, 1.0))
            num = self.num_judged[arm] + self.num_judged["real"]
            found.append(_make("human_origin_accuracy_score", arm, value, interval, 0.5, "lower", num, f"balanced accuracy; {_OWEN}{self.note}"))
        return found

    def describe_raters(self) -> list[MetricResult]:
        """Agreement of raters with each other on every question, and of people with the rules."""
        nominal = {name: self.ticks[name].astype(int) for name in CATEGORIES}
        nominal["fits"] = np.array([list(FITS).index(answer.fits) for answer in self.given])
        nominal["origin"] = np.array([list(ORIGINS).index(answer.origin) for answer in self.given])
        found = []
        for name, codes in nominal.items():
            found += _describe_alpha(name, codes, self.subjects, np.arange(float(codes.max() + 1)), "nominal", self)
        natural = np.array([answer.naturalness - 1 for answer in self.given])
        found += _describe_alpha("naturalness", natural, self.subjects, np.array(list(NATURALNESS), dtype=np.float64), "ordinal", self)
        return found + self._describe_rules()

    def _describe_rules(self) -> list[MetricResult]:
        numbers, people = self._majority()
        weights = np.stack(list(resample(seeded_generator(self.seed, "human/rules"), len(numbers), self.num_bootstrap))).astype(np.float64)
        found = []
        for fault in self.rules:
            rule = self._apply_rule(fault, numbers)
            if any(said.all() or not said.any() for said in (rule, people[fault])):
                # Who always says the same agrees as chance does, whatever the other says.
                continue
            value = float(cohen_kappas(people[fault], rule, np.ones((1, len(numbers))))[0])
            interval = interval_or_none(value, cohen_kappas(people[fault], rule, weights), (-1.0, 1.0))
            found.append(_make(f"human_rule_kappa_{fault}", ALL, value, interval, None, "higher", len(numbers), _COHEN + self.note))
        return found

    def _majority(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Numbers of the judged records, and for every category whether at least half of a record's raters say so."""
        numbers = np.unique(self.numbers)
        judged = np.bincount(self.subjects)
        return numbers, {name: np.bincount(self.subjects, weights=ticks) >= judged / 2 for name, ticks in self.ticks.items()}

    def _apply_rule(self, fault: str, numbers: np.ndarray) -> np.ndarray:
        return np.array([self.rules[fault](self.sample.records[number - 1]) for number in numbers.tolist()])

    def count_categories(self) -> dict[str, dict[str, int]]:
        """arm -> category -> records."""
        numbers, people = self._majority()
        arms = np.array([self.sample.records[number - 1].arm for number in numbers.tolist()])
        return {arm: {name: int(people[name][arms == arm].sum()) for name in CATEGORIES} for arm in self.sample.arms}

    def compare_forms(self) -> dict[str, dict[str, dict[str, float]]]:
        """fault -> arm -> shares, by people and by rule."""
        numbers = np.unique(self.numbers)
        arms = np.array([self.sample.records[number - 1].arm for number in numbers.tolist()])
        judged = [arm for arm in self.sample.arms if (arms == arm).any()]
        compared: dict[str, dict[str, dict[str, float]]] = {}
        for fault in self.rules:
            rule = self._apply_rule(fault, numbers)
            people = {arm: float(self.ticks[fault][self.arm_of == arm].mean()) for arm in judged}
            compared[fault] = {arm: {"people": people[arm], "rule": float(rule[arms == arm].mean())} for arm in judged}
        return compared


def _describe_alpha(
    name: str, codes: np.ndarray, subjects: np.ndarray, values: np.ndarray, level: Literal["nominal", "ordinal"], of: _Singles
) -> list[MetricResult]:
    rng = seeded_generator(of.seed, f"human/alpha/{name}")
    alpha, interval = alpha_with_interval(codes, subjects, values, level=level, rng=rng, num_bootstrap=of.num_bootstrap)
    if np.isnan(alpha):
        return []
    num = int((np.bincount(subjects) >= 2).sum())
    return [_make(f"human_krippendorff_alpha_{name}", ALL, alpha, interval, None, "higher", num, f"{_KRIPPENDORFF}, {level}{of.note}")]


def _describe_pairs(sample: RatingSample, answers: Sequence[Answer], raters: list[str], seed: int, num_bootstrap: int) -> list[MetricResult]:
    """For every two arms how often the first is preferred; a tie is half a win. Then how far raters agree."""
    if not answers:
        return []
    given = [answer.answer for answer in answers]
    preferred = [answer.preferred for answer in given if isinstance(answer, Preference)]
    numbers = np.array([answer.subject for answer in answers])
    subjects, judges = np.unique(numbers, return_inverse=True)[1], np.array([raters.index(answer.rater) for answer in answers])
    resamples = TwoWayResamples(subjects, judges, rng=seeded_generator(seed, "human/pairs"), num_bootstrap=num_bootstrap)
    arms = np.array([[sample.records[place - 1].arm for place in (pair.left, pair.right)] for pair in sample.pairs])[numbers - 1]
    score = np.array([{"left": 1.0, "right": 0.0, "tie": 0.5}[name] for name in preferred])
    found: list[MetricResult] = []
    note = f"; a tie is half a win; {_say_raters(len(raters))}"
    for place, other in enumerate(sample.arms):
        for arm in sample.arms[place + 1 :]:
            is_left, is_right = (arms == [arm, other]).all(axis=1), (arms == [other, arm]).all(axis=1)
            chosen = is_left | is_right
            if chosen.any():
                value, interval = resamples.describe(np.where(is_left, score, 1 - score), chosen, (0.0, 1.0))
                num = len(np.unique(numbers[chosen]))
                found.append(_make(f"human_win_frac_against_{other}", arm, value, interval, 0.5, "higher", num, _OWEN + note))
    codes = np.array([list(PREFERENCES).index(name) for name in preferred])
    rng = seeded_generator(seed, "human/alpha/preferred")
    alpha, interval = alpha_with_interval(codes, subjects, np.arange(3.0), level="nominal", rng=rng, num_bootstrap=num_bootstrap)
    if not np.isnan(alpha):
        num = int((np.bincount(subjects) >= 2).sum())
        found.append(_make("human_krippendorff_alpha_preferred", ALL, alpha, interval, None, "higher", num, f"{_KRIPPENDORFF}, nominal{note}"))
    return found


def _make(
    name: str, arm: str, value: float, interval: Interval | None, reference: float | None, direction: Direction, num_records: int, source: str
) -> MetricResult:
    return MetricResult("human", name, arm, value, interval, reference, direction, "PRIVATE", num_records, source)


def _say_raters(num_raters: int) -> str:
    if num_raters >= RATERS_PER_RECORD:
        return f"{num_raters} raters"
    return f"{num_raters} rater, fewer than the {RATERS_PER_RECORD} that are needed"


def _write_notes(sample: RatingSample, singles: Sequence[Answer], pairs: Sequence[Answer], raters: list[str]) -> list[str]:
    notes = []
    if len(raters) < RATERS_PER_RECORD:
        notes.append(
            f"Only one person has judged, {RATERS_PER_RECORD} are needed: agreement cannot be computed, and the intervals say nothing of how others judge."
        )
    if sample.num_per_arm < sample.wanted_per_arm:
        notes.append(f"The sample has {sample.num_per_arm:,} records of each set and not {sample.wanted_per_arm:,}: the smallest set has no more.")
    for answers, total, word in ((singles, len(sample.records), "records"), (pairs, len(sample.pairs), "pairs")):
        judged = np.unique([answer.subject for answer in answers], return_counts=True)[1]
        num_covered = int((judged >= RATERS_PER_RECORD).sum())
        if answers and num_covered < total:
            notes.append(
                f"Of {total:,} {word} {num_covered:,} have been judged by {RATERS_PER_RECORD} people or more, {len(judged) - num_covered:,} by one, "
                f"{total - len(judged):,} by nobody yet."
            )
    return notes


def read_summary(run_dir: RunDir, *, num_bootstrap: int = NUM_BOOTSTRAP) -> HumanSummary:
    """Sums up the answers that are in the run folder now.

    Raises:
      RatingsError: there are none, or their file is damaged.
      RunDirError: the sample is damaged, or the run's records have changed since.
    """
    sample = read_sample(run_dir)
    if sample is None:
        raise RatingsError(f"{run_dir.root}: nobody has judged a record of this run yet; open its page with `penname serve`")
    ratings = Ratings(run_dir.path("human_ratings"), sample)
    ratings.begin()
    return summarise_ratings(sample, ratings.read_all("single"), ratings.read_all("pair"), rules=make_form_rules(run_dir), num_bootstrap=num_bootstrap)


def write_summary(run_dir: RunDir) -> HumanSummary:
    """Writes the artefacts human_metrics (rows of `metrics.json`) and human_summary from the answers so far."""
    summary = read_summary(run_dir)
    rows: list[dict[str, Any]] = [{**asdict(metric), "version": SUMMARY_VERSION} for metric in summary.metrics]
    described = asdict(summary)
    del described["metrics"]
    write_json(run_dir.path("human_summary"), {"schema_version": SUMMARY_VERSION, "categories": CATEGORIES, **described})
    write_json(run_dir.path("human_metrics"), rows)
    return summary
