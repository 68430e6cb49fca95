"""How many texts of a set are broken."""

from penname.evaluate.fidelity.well_formed import ABRUPT_ENDING, NON_TEXT, REPEATED, WELL_FORMED
from penname.evaluate.samples import Row, RowSet, Samples


def test_fractions_by_hand():
    texts = ["All is well.", "go go go go go.", "It stops in the", "donâ€™t."]
    rows = [Row(rating=5, title="", text=text, category="c", finish_reason="stop") for text in texts]
    real = RowSet("real", [Row(rating=5, title="", text="Good.", category="c")] * 4, None)
    samples = Samples(train=real, heldout=real, test=real, synthetic={"a": RowSet("a", rows, None)}, seed=1, num_bootstrap=20, max_records=9)
    for metric, expected, reference in ((WELL_FORMED, 0.25, 1.0), (REPEATED, 0.25, 0.0), (ABRUPT_ENDING, 0.25, 0.0), (NON_TEXT, 0.25, 0.0)):
        real_estimate, estimate = metric.compute(samples)
        assert (estimate.value, estimate.reference, estimate.num_records) == (expected, reference, 4)
        assert real_estimate.value == reference
