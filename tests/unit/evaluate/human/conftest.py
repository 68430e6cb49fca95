"""A run folder with nothing but the records that people judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from penname.run_dir import RunDir, write_rows


def make_rows(label: str, num: int) -> list[dict[str, object]]:
    """Records of one set, with ratings and categories that the others have too."""
    return [
        {
            "record_id": f"{label}-{place}",
            "rating": place % 5 + 1,
            "category": ("Cases", "Chargers")[place % 2],
            "product_title": f"Product {place % 7}",
            "title": f"{label} title {place}",
            "text": f"It is the {place}th text of {label}.",
            "finish_reason": "" if label == "real" else "stop",
        }
        for place in range(num)
    ]


@pytest.fixture
def judged_run(tmp_path: Path) -> RunDir:
    run_dir = RunDir(tmp_path / "run")
    run_dir.create()
    sizes = {"test_records": ("real", 30), "synthetic_no_dp": ("no_dp", 24), "synthetic_with_dp": ("with_dp", 24)}
    for name, (label, num) in sizes.items():
        write_rows(run_dir.path(name), make_rows(label, num))
    return run_dir
