"""How positive a text sounds, by a model that learned it from the ratings of train: no lexicon, no language assumed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from penname.evaluate.privacy.errors import LeftOutError
from penname.evaluate.samples import RowSet, Samples
from penname.segmentation import split_words

MAX_FEATURES = 20_000
_REGULARISATION = 1.0


def fit_sentiment(texts: list[str], ratings: np.ndarray) -> Callable[[list[str]], np.ndarray]:
    """Learns the rating of a text from its words.

    Args:
      texts: PRIVATE.
      ratings: (n,). PRIVATE.
    Returns:
      Texts to (m,) float64, in ratings but not cut to 1 to 5. As private as the texts.
    Raises:
      LeftOutError: all ratings are the same, or no text has a word.
    Source: ridge regression, Hoerl and Kennard (1970), on TF-IDF of words.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge

    if len(np.unique(ratings)) < 2:
        raise LeftOutError("all ratings of train are the same, so nothing says what a good review sounds like; give rows with several ratings")
    analyzer: Any = split_words  # sklearn takes a callable; its annotation knows words only
    vectorizer = TfidfVectorizer(analyzer=analyzer, sublinear_tf=True, max_features=MAX_FEATURES)
    try:
        features = vectorizer.fit_transform(texts)
    except ValueError:  # sklearn's word for an empty vocabulary
        raise LeftOutError("no text of train has a word; give texts with words") from None
    model = Ridge(alpha=_REGULARISATION, solver="lsqr").fit(features, ratings)
    return lambda others: np.asarray(model.predict(vectorizer.transform(others)), dtype=np.float64)


def score_sentiment(rows: RowSet, samples: Samples) -> np.ndarray:
    """(n,) how positive each text of a set sounds; the model is fitted once, on at most `max_records` of train, which are nobody's reference."""

    def fit() -> Callable[[list[str]], np.ndarray]:
        train = samples.take(samples.train, samples.max_records)
        return fit_sentiment(train.texts, np.array([row.rating for row in train.rows]))

    return samples.once(("sentiment", rows.name, len(rows)), lambda: samples.once("sentiment", fit)(rows.texts))
