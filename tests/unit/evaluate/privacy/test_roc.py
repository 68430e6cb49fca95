"""AUROC, TPR at FPR and user averages on scores whose truth is known."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.privacy.roc import attack_auroc, average_by_unit, roc_curve, tpr_at_fpr


def draw(rng, *, shift=0.5, members=150, others=200, digits=1):
    return rng.normal(shift, 1, members).round(digits), rng.normal(0, 1, others).round(digits)


def test_auroc_agrees_with_sklearn_ties_included():
    members, others = draw(np.random.default_rng(1))
    expected = roc_auc_score([1] * len(members) + [0] * len(others), np.concatenate([members, others]))
    assert attack_auroc(members, others).value == pytest.approx(expected)


def test_the_curve_agrees_with_sklearn():
    members, others = draw(np.random.default_rng(2))
    fpr, tpr, _ = sklearn_roc_curve([1] * len(members) + [0] * len(others), np.concatenate([members, others]), drop_intermediate=False)
    ours = roc_curve(members, others)
    np.testing.assert_allclose(ours, (fpr, tpr))
    assert (ours[0][0], ours[1][0], ours[0][-1], ours[1][-1]) == (0, 0, 1, 1)


def test_delongs_interval_covers_over_1000_simulations():
    rng = np.random.default_rng(3)
    truth = 0.7602  # of two unit normals one apart: Phi(1 / sqrt 2)
    hits = [low <= truth <= high for low, high in (attack_auroc(rng.normal(1, 1, 60), rng.normal(0, 1, 60)).ci95 for _ in range(1000))]
    assert 0.93 <= np.mean(hits) <= 0.975


@pytest.mark.parametrize("shift", [9.0, -9.0])
def test_perfect_separation_is_no_certainty(shift):
    members, others = np.linspace(0, 1, 20) + shift, np.linspace(0, 1, 20)
    found = attack_auroc(members, others)
    assert found.value == float(shift > 0)
    assert found.ci95[0] <= found.value <= found.ci95[1]
    assert 0.05 < found.ci95[1] - found.ci95[0] < 0.3


def test_constant_scores_are_chance():
    found = attack_auroc(np.ones(30), np.ones(30))
    assert found.value == 0.5
    assert found.ci95[0] < 0.5 < found.ci95[1]


def test_tpr_at_fpr_by_hand():
    others = np.arange(1000.0)
    members = np.array([998.5, 999.5, 3000.0, -1.0])
    assert tpr_at_fpr(members, others, target_fpr=0.001).value == 0.75  # one non-member may be above: the threshold is 998
    found = tpr_at_fpr(members, others, target_fpr=0.01)
    assert (found.value, found.threshold, found.fpr) == (0.75, 989.0, 0.01)
    assert found.ci95[0] < 0.75 < found.ci95[1]


def test_ties_at_the_threshold_never_raise_the_false_positive_rate():
    found = tpr_at_fpr(np.ones(50), np.ones(200), target_fpr=0.01)
    assert (found.value, found.fpr) == (0.0, 0.0)


def test_tpr_of_a_known_law():
    rng = np.random.default_rng(4)
    found = tpr_at_fpr(rng.normal(2, 1, 4000), rng.normal(0, 1, 40_000), target_fpr=0.01)
    assert found.value == pytest.approx(0.3721, abs=0.03)  # Phi(2 - 2.3263)


def test_too_few_non_members_are_said_and_not_scored_zero():
    with pytest.raises(LeftOutError, match=r"0\.001 needs 1,000 non-members, there are 999"):
        tpr_at_fpr(np.ones(10), np.arange(999.0), target_fpr=0.001)


def test_scores_that_are_no_numbers_and_too_few():
    with pytest.raises(LeftOutError, match="1 of 3 scores of members are not finite"):
        attack_auroc(np.array([1.0, np.nan, 2.0]), np.arange(3.0))
    with pytest.raises(LeftOutError, match="0 non-members; an attack needs two"):
        attack_auroc(np.arange(3.0), np.array([]))


def test_average_by_unit():
    assert average_by_unit(np.array([1.0, 2.0, 6.0, 3.0]), ["b", "a", "a", "b"]).tolist() == [2.0, 4.0]
    with pytest.raises(LeftOutError, match="no user id"):
        average_by_unit(np.ones(2), ["a", ""])


def test_averaging_records_makes_the_attack_on_users_stronger():
    rng = np.random.default_rng(5)
    units = [str(i // 8) for i in range(1600)]
    members, others = rng.normal(0.3, 1, 1600), rng.normal(0, 1, 1600)
    by_record = attack_auroc(members, others)
    by_user = attack_auroc(average_by_unit(members, units), average_by_unit(others, units))
    assert by_user.ci95[0] > by_record.ci95[1]
