"""Topics: what covers one, and what does not."""

import numpy as np

from penname.evaluate.fidelity.topics import covered_frac, fit_topics


def test_clear_topics_are_found_and_counted():
    rng = np.random.default_rng(0)
    train = np.concatenate([centre + 0.05 * rng.normal(size=(30, 5)) for centre in np.eye(5)])
    model, shares = fit_topics(train, num_topics=5, seed=1)
    assert shares.tolist() == [0.2] * 5
    two = model.predict(np.repeat(np.eye(5)[:2], 10, axis=0))
    assert covered_frac(shares, np.bincount(two, minlength=5)) == 0.4
    assert covered_frac(shares, np.bincount(model.labels_, minlength=5)) == 1.0


def test_a_stray_text_covers_nothing_and_an_empty_topic_does_not_count():
    shares = np.array([0.5, 0.5, 0.0])
    assert covered_frac(shares, np.array([99, 1, 0])) == 0.5
    assert covered_frac(shares, np.array([90, 10, 0])) == 1.0
