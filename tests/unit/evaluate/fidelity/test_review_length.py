"""Mean and median of words."""

from penname.evaluate.fidelity.review_length import WORDS_MEAN, WORDS_MEDIAN
from penname.evaluate.samples import Row, RowSet, Samples


def test_mean_and_median_by_hand():
    def row_set(name, lengths):
        return RowSet(name, [Row(rating=5, title="not counted", text="w " * n, category="c") for n in lengths], None)

    real = row_set("test", [1, 2, 3, 10])
    samples = Samples(train=real, heldout=real, test=real, synthetic={"a": row_set("a", [0, 4, 4, 8])}, seed=1, num_bootstrap=50, max_records=9)
    for metric, value, reference in ((WORDS_MEAN, 4.0, 4.0), (WORDS_MEDIAN, 4.0, 2.5)):
        real_estimate, estimate = metric.compute(samples)
        assert (estimate.value, estimate.reference, real_estimate.value) == (value, reference, reference)
        assert estimate.ci95[0] < value < estimate.ci95[1]
