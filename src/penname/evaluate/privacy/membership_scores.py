"""Scores of the membership attacks on a model, from the log-likelihood of every token. Higher always means more likely a member."""

from __future__ import annotations

import zlib

import numpy as np

from penname.evaluate.privacy.errors import LeftOutError
from penname.model.likelihood import TokenLikelihoods

MIN_K_FRAC = 0.2
"""Share of the least likely tokens that min-k % looks at; 20 % is the best of its paper."""


def loss_scores(tokens: TokenLikelihoods) -> np.ndarray:
    """Mean log-likelihood a token, the negative loss.

    Args:
      tokens: Of n records under the trained model. PRIVATE.
    Returns:
      (n,) float64. PRIVATE.
    Source: Yeom et al. (2018), https://arxiv.org/abs/1709.01604
    """
    _check_tokens(tokens)
    return np.add.reduceat(np.asarray(tokens.log_likelihoods, dtype=np.float64), tokens.starts) / tokens.num_tokens


def calibrated_scores(tokens: TokenLikelihoods, base_tokens: TokenLikelihoods) -> np.ndarray:
    """How much better the trained model knows a record than the base model that never saw it: a text that is easy for both is no member.

    Args:
      tokens: Of n records under the trained model. PRIVATE.
      base_tokens: Of the same records under the base model.
    Returns:
      (n,) float64: difference of the mean log-likelihoods. PRIVATE.
    Source: Watson et al. (2022), https://arxiv.org/abs/2111.08440; Carlini et al. (2021), https://arxiv.org/abs/2012.07805
    """
    if not np.array_equal(tokens.num_tokens, base_tokens.num_tokens):
        raise ValueError("the two models scored different tokens; score the same records with the same tokenizer")
    return loss_scores(tokens) - loss_scores(base_tokens)


def min_k_scores(tokens: TokenLikelihoods, *, frac: float = MIN_K_FRAC) -> np.ndarray:
    """Mean log-likelihood of the least likely tokens: an unseen text has a few words that the model did not expect at all.

    Args:
      tokens: Of n records under the trained model. PRIVATE.
      frac: In (0, 1]; of each record's tokens, at least one counts.
    Returns:
      (n,) float64. PRIVATE.
    Source: Shi et al. (2024), Min-K% Prob. https://arxiv.org/abs/2310.16789
    """
    _check_tokens(tokens)
    values = np.asarray(tokens.log_likelihoods, dtype=np.float64)
    records = np.repeat(np.arange(len(tokens.num_tokens)), tokens.num_tokens)
    order = np.lexsort((values, records))
    rank_in_record = np.arange(len(values)) - np.repeat(tokens.starts, tokens.num_tokens)
    num_kept = np.maximum(1, np.floor(frac * tokens.num_tokens + 1e-9))
    is_kept = rank_in_record < np.repeat(num_kept, tokens.num_tokens)
    return np.add.reduceat(np.where(is_kept, values[order], 0.0), tokens.starts) / num_kept


def zlib_scores(tokens: TokenLikelihoods, texts: list[str]) -> np.ndarray:
    """Mean log-likelihood over the bytes that zlib needs: a text that is likely only because it repeats itself compresses well.

    Args:
      tokens: Of n records under the trained model. PRIVATE.
      texts: The n completions. PRIVATE.
    Returns:
      (n,) float64, at most 0. PRIVATE.
    Source: Carlini et al. (2021), section 5.2. https://arxiv.org/abs/2012.07805
    """
    num_bytes = np.array([len(zlib.compress(text.encode(errors="surrogatepass"))) for text in texts])
    return loss_scores(tokens) / num_bytes


def _check_tokens(tokens: TokenLikelihoods) -> None:
    if len(tokens.num_tokens) == 0 or np.min(tokens.num_tokens) < 1:
        raise LeftOutError("membership: a record has no token to score; leave out records without text")
