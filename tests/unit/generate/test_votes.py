"""Votes: a unit has one, for what is most like its records; nobody's vote depends on anybody else."""

import numpy as np
import pytest
import torch

from penname.generate.exemplars import Exemplar
from penname.generate.votes import Ballot, describe, sum_votes
from penname.privacy.keystream import Keystream
from penname.privacy.ledger import Receipt
from penname.privacy.mechanism import DpSgd, NonPrivateSum

TEXTS = {"a": (1.0, 0.0, 0.0), "b": (0.0, 1.0, 0.0), "c": (0.0, 0.0, 1.0)}
CANDIDATES = [Exemplar(5, "Hats", "", name, name) for name in "abc"] + [Exemplar(1, "Hats", "", "a", "a")]


def embed(text):
    return np.array(TEXTS[text.partition("\n")[0]], dtype=np.float32)


def record(*direction, rating=5, category="Hats"):
    vector = np.array(direction, dtype=np.float32)
    return (rating, category), vector / np.linalg.norm(vector)


BALLOT = Ballot(CANDIDATES, embed)


def make_mechanism(sampling_prob=1.0):
    mechanism = DpSgd(1.0, sampling_prob, 3, 1.0, Keystream.from_seed(1))
    return DpSgd(1.0, sampling_prob, 3, 1.0, Keystream.from_seed(1), Receipt("test", mechanism.event, mechanism.keystream.commitment))


def test_a_record_chooses_the_candidate_most_like_it_among_those_of_its_rating_and_category():
    assert BALLOT.vote([record(0.1, 0.9, 0.2)])[0].tolist() == [0, 1, 0, 0]
    assert BALLOT.vote([record(0.1, 0.9, 0.2, rating=1)])[0].tolist() == [0, 0, 0, 1]
    said, nearest = BALLOT.vote([record(0.1, 0.9, 0.2, rating=2)])
    assert (said.tolist(), nearest) == ([0, 0, 0, 0], [])


def test_a_unit_has_one_vote_whatever_the_number_of_its_records():
    said, nearest = BALLOT.vote([record(1, 0, 0), record(0, 1, 0), record(0, 1, 0.1), record(0, 0, 1, rating=2)])
    assert said.tolist() == [0.25, 0.5, 0, 0]
    assert len(nearest) == 3
    assert np.abs(BALLOT.vote([record(1, 0, 0)] * 7)[0]).sum() == pytest.approx(1)


def test_no_unit_moves_the_sum_by_more_than_one_and_its_part_is_the_same_bits_beside_any_others():
    generator = np.random.default_rng(2)
    units = [[record(*generator.normal(size=3), rating=int(generator.choice([1, 5]))) for _ in range(1 + i % 3)] for i in range(150)]
    mechanism = make_mechanism()
    total, _ = sum_votes(mechanism, BALLOT, units)
    assert total.num_units == 150
    for i in (0, 70, 149):
        less, _ = sum_votes(mechanism, BALLOT, units[:i] + units[i + 1 :])
        alone, _ = sum_votes(mechanism, BALLOT, [units[i]])
        assert torch.equal(total.value - less.value, alone.value)
        assert 0 < float(alone.value.norm()) <= 1.0


def test_a_vote_that_counts_more_than_once_is_cut_to_one(monkeypatch):
    """Were a unit's vector wrong, the mechanism's clipping would still bound it."""
    monkeypatch.setattr(Ballot, "vote", lambda self, records: (np.full(4, 9.0, dtype=np.float32), []))
    total, _ = sum_votes(make_mechanism(), BALLOT, [[record(1, 0, 0)]])
    assert float(total.value.norm()) <= 1.0
    assert total.num_clipped == 1


def test_without_privacy_votes_are_counted_as_they_are():
    total, _ = sum_votes(NonPrivateSum(1.0, 1, Keystream.from_seed(1)), BALLOT, [[record(1, 0, 0)]] * 100)
    assert total.value.tolist() == [100, 0, 0, 0]


def test_what_is_embedded_is_title_and_text():
    assert describe("Warm", "Soft too.") == "Warm\nSoft too."
