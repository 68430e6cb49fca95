"""Embeddings of private records: each by itself, once."""

import json

import numpy as np

from penname.generate.record_embeddings import RecordEmbeddings
from penname.unit_file import UnitFile


def test_a_record_is_embedded_alone_once_and_nothing_is_left_behind(tmp_path):
    rows = [{"unit_id": u, "prompt": "", "completion": "", "rating": i, "category": "A", "title": f"t{i}", "text": "x" * i} for i, u in enumerate("aba")]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = []

    def embed(text):
        asked.append(text)
        return np.array([len(text), 1.0], dtype=np.float32)

    with RecordEmbeddings.open(UnitFile(path), embed, width=2, folder=tmp_path / "run") as embedded:
        assert embedded.num_units == 2
        for _ in range(2):
            (first, vector), (second, other) = embedded.read_unit(0)
            assert (first, second) == ((0, "A"), (2, "A"))
            assert vector.tolist() == [3.0, 1.0]
            assert other.tolist() == [5.0, 1.0]
        assert asked == ["t0\n", "t2\nxx"]
        assert embedded.spread(9) == [0, 1]
    assert list((tmp_path / "run").iterdir()) == []
