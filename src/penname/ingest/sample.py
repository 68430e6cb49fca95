"""The fictional marketplace as the data set of a run: written into the run folder, once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from penname.run_dir import RunDir, replace_folder, write_json

if TYPE_CHECKING:
    from penname.config import DataConfig

_MARK = "sample.json"
_REVIEWS = "Cell_Phones_and_Accessories.jsonl"
_PRODUCTS = "meta_Cell_Phones_and_Accessories.jsonl"


def write_sample(data: DataConfig, run_dir: RunDir) -> DataConfig:
    """Writes the marketplace unless this very one is there.

    Args:
      data: Says how large it is, and its seed.
      run_dir: Gets the artefact sample_data.
    Returns:
      The section as it would be for these files.
    """
    folder = run_dir.path("sample_data")
    wanted = {"num_reviews": data.sample_num_reviews, "seed": data.sample_seed}
    if not _is_sample(folder, wanted):
        from penname.ingest.sample_data import write_sample_data

        with replace_folder(folder) as new:
            write_sample_data(new, num_reviews=data.sample_num_reviews, seed=data.sample_seed)
            write_json(new / _MARK, wanted)
    files = {"reviews": str(folder / _REVIEWS), "catalogue": str(folder / _PRODUCTS)}
    return data.model_copy(update={"format": "amazon_reviews_2023", "encoding": "utf-8", **files})


def _is_sample(folder: Path, wanted: dict[str, int]) -> bool:
    try:
        found = json.loads((folder / _MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return found == wanted and (folder / _REVIEWS).is_file() and (folder / _PRODUCTS).is_file()
