"""A finished run whose texts are written anew by OpenVINO: whole, certified, verified."""

import pytest

from penname.run_dir import read_rows

pytestmark = pytest.mark.slow


def test_a_run_may_be_written_by_openvino(penname, config_file, finished_run):
    before = {arm: list(read_rows(finished_run / f"3_generate/generated_sequences_{arm}.jsonl")) for arm in ("with_dp", "no_dp")}
    ledger = (finished_run / "ledger.jsonl").read_bytes()
    said = penname.succeed("run", config_file, "generate.engine=openvino", "--out", finished_run).stderr
    # OpenVINO counts the memory that its texts held, and says at its end what was not given back.
    assert "[ERROR]" not in said
    assert "leaked" not in said
    for arm, rows in before.items():
        anew = list(read_rows(finished_run / f"3_generate/generated_sequences_{arm}.jsonl"))
        assert [row["record_id"] for row in anew] == [row["record_id"] for row in rows]
        assert [(row["rating"], row["category"]) for row in anew] == [(row["rating"], row["category"]) for row in rows]
        assert [row["text"] for row in anew] != [row["text"] for row in rows]
    assert "VERIFIED" in penname.succeed("verify", finished_run / "release").stdout
    # Writing costs nothing: it is a function of what was released.
    assert (finished_run / "ledger.jsonl").read_bytes() == ledger
    assert not [path for path in finished_run.rglob("*") if path.name.startswith(".openvino-")]
