"""Each signal against the plain loop over records."""

import zlib

import numpy as np
import pytest

from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.privacy.membership_scores import calibrated_scores, loss_scores, min_k_scores, zlib_scores
from penname.model.likelihood import TokenLikelihoods


def make_tokens(seed=0, lengths=(5, 1, 12, 3)):
    return TokenLikelihoods(-np.random.default_rng(seed).exponential(2.0, sum(lengths)), np.array(lengths))


def split(tokens):
    return np.split(tokens.log_likelihoods, np.cumsum(tokens.num_tokens)[:-1])


def test_signals_against_the_loop():
    tokens, base = make_tokens(), make_tokens(1)
    np.testing.assert_allclose(loss_scores(tokens), [own.mean() for own in split(tokens)])
    np.testing.assert_allclose(calibrated_scores(tokens, base), [a.mean() - b.mean() for a, b in zip(split(tokens), split(base), strict=True)])
    for frac in (0.2, 0.5, 1.0):
        expected = [np.sort(own)[: max(1, int(frac * len(own)))].mean() for own in split(tokens)]
        np.testing.assert_allclose(min_k_scores(tokens, frac=frac), expected)
    texts = ["a", "bb", "a long text without any rhyme or reason", "x" * 50]
    np.testing.assert_allclose(zlib_scores(tokens, texts), [own.mean() / len(zlib.compress(t.encode())) for own, t in zip(split(tokens), texts, strict=True)])


def test_every_signal_is_higher_where_the_model_knows_the_text_better():
    worse = make_tokens()
    better = TokenLikelihoods(worse.log_likelihoods / 2, worse.num_tokens)
    texts = ["some text"] * 4
    assert (loss_scores(better) > loss_scores(worse)).all()
    assert (min_k_scores(better) > min_k_scores(worse)).all()
    assert (zlib_scores(better, texts) > zlib_scores(worse, texts)).all()
    assert (calibrated_scores(better, worse) > 0).all()


def test_records_without_tokens_and_tokens_that_do_not_match():
    for tokens in (TokenLikelihoods(np.zeros(3), np.array([3, 0])), TokenLikelihoods(np.zeros(0), np.zeros(0, dtype=np.int64))):
        for score in (loss_scores, min_k_scores):
            with pytest.raises(LeftOutError, match="no token to score"):
                score(tokens)
    with pytest.raises(ValueError, match="different tokens"):
        calibrated_scores(make_tokens(), make_tokens(lengths=(5, 2, 11, 3)))
