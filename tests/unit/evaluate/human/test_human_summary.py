"""What people said, summed up: known answers come out, both sources of chance widen an interval, and too few raters are said."""

from dataclasses import replace

import numpy as np
import pytest

from penname.evaluate.human.errors import RatingsError
from penname.evaluate.human.form_rules import make_form_rules
from penname.evaluate.human.questions import Judgement, Preference
from penname.evaluate.human.ratings import Answer, Ratings
from penname.evaluate.human.resampling import TwoWayResamples
from penname.evaluate.human.sample import draw_sample, open_sample
from penname.evaluate.human.summary import read_summary, summarise_ratings, write_summary
from penname.run_dir import read_json, write_rows
from penname.schemas import MetricResult

FAIR = {
    "real": Judgement(("good",), 5, "yes", "real"),
    "no_dp": Judgement(("good",), 4, "yes", "synthetic"),
    "with_dp": Judgement(("repetition", "abrupt_ending"), 2, "no", "synthetic"),
}


@pytest.fixture
def sample(judged_run):
    return draw_sample(judged_run, num_per_arm=12)


def judge(sample, raters=("Ann", "Bob"), judgement=lambda record, rater: FAIR[record.arm]):
    return [Answer(0, "single", record.number, rater, judgement(record, rater), "") for rater in raters for record in sample.records]


def find(summary, name, arm) -> MetricResult:
    (found,) = [metric for metric in summary.metrics if (metric.name, metric.arm) == (name, arm)]
    return found


def test_known_answers(sample):
    summary = summarise_ratings(sample, judge(sample), [], num_bootstrap=50)
    assert summary.num_raters == 2
    assert summary.num_judged == {"real": 12, "no_dp": 12, "with_dp": 12}
    assert summary.counts["with_dp"] == {"good": 0, "non_text": 0, "repetition": 12, "abrupt_ending": 12, "gibberish": 0}
    assert summary.counts["real"]["good"] == 12
    assert find(summary, "human_good_frac", "with_dp").value == 0.0
    naturalness = find(summary, "human_naturalness_mean", "no_dp")
    assert (naturalness.value, naturalness.reference, naturalness.num_records) == (4.0, 5.0, 12)
    assert find(summary, "human_taken_for_real_frac", "real").value == 1.0
    origin = find(summary, "human_origin_accuracy_score", "with_dp")
    assert (origin.value, origin.reference, origin.direction) == (1.0, 0.5, "lower")
    assert find(summary, "human_krippendorff_alpha_naturalness", "all").value == 1.0
    assert {metric.family for metric in summary.metrics} == {"human"}
    for metric in summary.metrics:
        assert metric.ci95 is None or metric.ci95[0] <= metric.value <= metric.ci95[1]


def test_who_cannot_tell_scores_one_half(sample):
    rng = np.random.default_rng(5)
    blind = lambda record, rater: replace(FAIR["real"], origin=("real", "synthetic")[int(rng.integers(2))])  # noqa: E731
    summary = summarise_ratings(sample, judge(sample, ("a", "b", "c", "d"), blind), [], num_bootstrap=100)
    for arm in ("no_dp", "with_dp"):
        interval = find(summary, "human_origin_accuracy_score", arm).ci95
        assert interval is not None
        assert interval[0] < 0.5 < interval[1]
    assert abs(find(summary, "human_krippendorff_alpha_origin", "all").value) < 0.4


def test_cannot_tell_whether_it_fits_is_left_out(sample):
    unsure = lambda record, rater: replace(FAIR[record.arm], fits="unsure" if rater == "Bob" else "yes")  # noqa: E731
    assert find(summarise_ratings(sample, judge(sample, judgement=unsure), [], num_bootstrap=50), "human_fits_frac", "real").value == 1.0


def test_half_of_the_raters_make_a_count(sample):
    split = lambda record, rater: FAIR["with_dp" if rater == "Ann" else "real"]  # noqa: E731
    counts = summarise_ratings(sample, judge(sample, judgement=split), [], num_bootstrap=50).counts["no_dp"]
    assert (counts["good"], counts["repetition"]) == (12, 12)


def test_one_rater_is_said_in_the_notes_and_beside_every_figure(sample):
    summary = summarise_ratings(sample, judge(sample, ("Ann",)), [], num_bootstrap=50)
    assert any("Only one person has judged, 2 are needed" in note for note in summary.notes)
    assert all("1 rater, fewer than the 2 that are needed" in metric.source for metric in summary.metrics)
    assert not [metric for metric in summary.metrics if "krippendorff" in metric.name]


def test_a_small_sample_and_gaps_are_said(sample):
    half = [answer for answer in judge(sample) if answer.rater == "Ann" or answer.subject <= 10]
    notes = " ".join(summarise_ratings(sample, half[:20] + half[36:], [], num_bootstrap=50).notes)
    assert "The sample has 12 records" not in notes
    assert "Of 36 records 10 have been judged by 2 people or more, 10 by one, 16 by nobody yet." in notes
    small = replace(sample, wanted_per_arm=500)
    assert any("12 records of each set and not 500" in note for note in summarise_ratings(small, half, [], num_bootstrap=50).notes)


def test_wins_do_not_depend_on_the_side(sample):
    def prefer(pair):
        left, right = (sample.records[number - 1].arm for number in (pair.left, pair.right))
        if {left, right} == {"no_dp", "with_dp"}:
            return Preference("tie")
        return Preference("left" if left == "real" else "right")

    answers = [Answer(0, "pair", pair.number, rater, prefer(pair), "") for rater in ("Ann", "Bob") for pair in sample.pairs]
    summary = summarise_ratings(sample, [], answers, num_bootstrap=50)
    assert find(summary, "human_win_frac_against_real", "with_dp").value == 0.0
    assert find(summary, "human_win_frac_against_no_dp", "with_dp").value == 0.5
    assert find(summary, "human_krippendorff_alpha_preferred", "all").value == 1.0
    assert summary.counts == {}


def test_people_beside_the_rules(sample):
    records = tuple(replace(record, text="so good so good so good so good") if record.arm == "with_dp" else record for record in sample.records)
    summary = summarise_ratings(replace(sample, records=records), judge(sample), [], num_bootstrap=50)
    assert summary.forms["repetition"]["with_dp"] == {"people": 1.0, "rule": 1.0}
    assert summary.forms["repetition"]["real"] == {"people": 0.0, "rule": 0.0}
    assert find(summary, "human_rule_kappa_repetition", "all").value == 1.0
    assert "human_rule_kappa_non_text" not in {metric.name for metric in summary.metrics}, "nobody and no rule ever said so"


def test_gibberish_has_a_rule_where_there_is_real_text_to_learn_from(judged_run, sample):
    assert "gibberish" not in make_form_rules(judged_run)
    texts = ["the case holds the phone and the strap is good", "a good charger for the price", "the strap broke after a week of use"]
    others = ["the phone holds and the case is good", "the charger broke after the price", "a good strap for a week"]
    for name, own in (("train_records", texts), ("heldout_records", others)):
        write_rows(judged_run.path(name), ({"text": text} for text in own * 20))
    rule = make_form_rules(judged_run)["gibberish"]
    assert rule(replace(sample.records[0], text="zqxj vvkw xqz jjq"))
    assert not rule(replace(sample.records[0], text=texts[0]))


def test_chance_in_raters_and_in_records_both_count():
    """Owen's resample against the variance of a two-way random effects model with known parts."""
    rng = np.random.default_rng(7)
    num_subjects, num_raters = 40, 40
    subjects, raters = np.divmod(np.arange(num_subjects * num_raters), num_raters)
    everyone = np.ones(len(subjects), dtype=bool)

    def spread(subject_sd, rater_sd):
        values = rng.normal(size=num_subjects)[subjects] * subject_sd + rng.normal(size=num_raters)[raters] * rater_sd
        return float(TwoWayResamples(subjects, raters, rng=np.random.default_rng(1), num_bootstrap=400).share(values, everyone).std())

    assert spread(1.0, 0.0) == pytest.approx(1 / np.sqrt(num_subjects), rel=0.35)
    assert spread(0.0, 1.0) == pytest.approx(1 / np.sqrt(num_raters), rel=0.35)
    assert spread(1.0, 1.0) > 1.15 / np.sqrt(num_subjects)


def test_the_artefacts_of_a_run(judged_run):
    sample = open_sample(judged_run, num_per_arm=4)
    ratings = Ratings(judged_run.path("human_ratings"), sample)
    ratings.begin()
    with pytest.raises(RatingsError, match="nobody has judged"):
        read_summary(judged_run)
    for name in ("Ann", "Bob"):
        for record in sample.records:
            ratings.store("single", record.number, ratings.join(name), FAIR[record.arm])
    summary = write_summary(judged_run)
    rows = read_json(judged_run.path("human_metrics"))
    assert [row["name"] for row in rows] == [metric.name for metric in summary.metrics]
    assert {row["visibility"] for row in rows} == {"PRIVATE"}
    described = read_json(judged_run.path("human_summary"))
    assert described["counts"]["with_dp"]["repetition"] == 4
    assert "Ann" not in judged_run.path("human_summary").read_text() + judged_run.path("human_metrics").read_text()


def test_a_run_that_nobody_judged(judged_run):
    with pytest.raises(RatingsError, match="nobody has judged a record of this run yet"):
        read_summary(judged_run)
