"""Sentences that depend on numbers say what the numbers say, and never better."""

from __future__ import annotations

import doctest
import math

import pytest

from penname.report import inventory, metric_tables, settings, untrusted_text, wording
from penname.schemas import MetricResult


def metric(name: str, arm: str, value: float, reference: float | None = None) -> MetricResult:
    return MetricResult("utility", name, arm, value, None, reference, "higher", "PRIVATE", 10, "a paper")


@pytest.mark.parametrize("module", [inventory, metric_tables, settings, untrusted_text, wording])
def test_doctests(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_verdict_without_a_private_arm_promises_nothing(certificate):
    assert "promises nothing" in wording.write_verdict(certificate | {"epsilon_spent": None}, [])


def test_verdict_without_metrics_does_not_invent_a_cost(certificate):
    assert wording.write_verdict(certificate, []).endswith("what it cost in usefulness was not measured.")
    only_no_dp = [metric("tstr_accuracy_score", "no_dp", 0.8)]
    assert wording.write_verdict(certificate, only_no_dp).endswith("was not measured.")


def test_verdict_prefers_accuracy_and_names_the_naive_guess(certificate):
    metrics = [
        metric("tstr_macro_f1_score", "with_dp", 0.5),
        metric("tstr_accuracy_score", "with_dp", 0.7, reference=0.85),
        metric("majority_accuracy_score", "real", 0.77, reference=0.77),
    ]
    verdict = wording.write_verdict(certificate, metrics)
    assert "reaches an accuracy of 0.700 on real reviews" in verdict
    assert verdict.endswith("against 0.850 when it is trained on real ones and 0.770 for always guessing the commoner answer.")


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 7.9871, 13.9, 50.0, 1000.0])
@pytest.mark.parametrize("delta", [1e-12, 1e-5])
def test_explained_bounds_are_never_below_the_true_ones(epsilon, delta):
    sentences = wording.explain_epsilon(epsilon, delta, {"privacy_unit": "user"})
    factor = sentences[0].split("factor of ")[1].split(" (e")[0]
    if factor == "more than a million":
        assert epsilon > math.log(1e6)
    else:
        assert float(factor.replace(",", "")) >= math.exp(epsilon) - 1e-6
    chance = sentences[1].split("probability of at most ")[1].split(" %")[0]
    true = (1 + delta * math.exp(-epsilon)) / (1 + math.exp(-epsilon))
    if chance == "more than 99.99":
        assert true > 0.9999
    else:
        assert float(chance) / 100 >= true - 1e-8


@pytest.mark.parametrize("epsilon", [0.1, 1.2341, 7.99901, 8.0, 0.0001])
def test_an_epsilon_is_never_rounded_down(epsilon):
    shown = float(wording.format_epsilon(epsilon))
    assert epsilon - 1e-9 <= shown <= epsilon + 0.001


def test_a_releasable_certificate_has_no_reasons(certificate):
    assert wording.reasons_not_to_release(certificate) == []


def test_the_same_reason_is_not_said_twice(certificate):
    seeded = certificate | {"noise_source": "seed", "releasable": False, "not_releasable_because": ["privacy.noise_seed is set"]}
    assert wording.reasons_not_to_release(seeded) == ["privacy.noise_seed is set"]


@pytest.mark.parametrize(
    ("unit", "column", "every", "who"),
    [
        ("user", None, "user", "one user, with all reviews of theirs that take part,"),
        ("record", None, "single review", "one single review changes"),
        ("column", "home", "value of the column home", "one value of the column home, with all its reviews that take part,"),
    ],
)
def test_every_kind_of_unit_has_its_words(unit, column, every, who):
    certificate = {"privacy_unit": unit, "unit_column": column}
    assert wording.unit_in_words(certificate) == every
    assert who in wording.explain_epsilon(1.0, 1e-6, certificate)[0]
