"""Texts of all sets on one plane, alike ones near each other: for the eye, not for a figure."""

from __future__ import annotations

import numpy as np

from penname.evaluate.samples import Samples

MAX_POINTS = 120
"""Of each set: more points hide each other."""
MIN_POINTS = 10


def place_texts(samples: Samples) -> dict[str, list[list[float]]]:
    """Places texts of test (as `real`) and of every synthetic set by t-SNE of their embeddings.

    Args:
      samples: PRIVATE.
    Returns:
      Arm -> [x, y] of at most MAX_POINTS texts, scaled to 0 to 1; empty with fewer than MIN_POINTS texts in a set. PRIVATE.
    Source: van der Maaten and Hinton (2008), https://www.jmlr.org/papers/v9/vandermaaten08a.html
    """
    from sklearn.manifold import TSNE

    num = min(samples.num_compared, MAX_POINTS)
    if num < MIN_POINTS:
        return {}
    # From the rows that were compared, whose embeddings are there already.
    sets = {arm: samples.take(rows, samples.num_compared).embeddings for arm, rows in {"real": samples.test, **samples.synthetic}.items()}
    rng = samples.generator("embedding map")
    vectors = np.concatenate([own[np.sort(rng.permutation(len(own))[:num])] for own in sets.values()]).astype(np.float32)
    # Equal texts would lie on each other with no distance between them at all.
    vectors += rng.normal(scale=1e-4, size=vectors.shape).astype(np.float32)
    model = TSNE(2, perplexity=min(30.0, (len(vectors) - 1) / 3), init="pca", random_state=int(rng.integers(2**31)), n_jobs=1)
    places = model.fit_transform(vectors)
    low, high = places.min(axis=0), places.max(axis=0)
    scaled = np.round((places - low) / np.maximum(high - low, 1e-9), 4)
    return {arm: part.tolist() for arm, part in zip(sets, np.split(scaled, len(sets)), strict=True)}
