"""Executes the notebooks in order, in one kernel, and writes their outputs into them: python examples/execute.py [--runs DIR]

The notebooks share the folders runs/demo and runs/audit: what is done there is not done again, so after `make demo` and `penname audit` this takes about a
minute, and without them as long as both. PENNAME_SETTINGS and PENNAME_AUDIT_SETTINGS hold settings as JSON, such as {"train.num_steps": 2}.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from penname.run_dir import write_atomic

HERE = Path(__file__).resolve().parent
CELL_SECS = 7200


def list_notebooks() -> list[Path]:
    """The notebooks in the order in which they build on each other."""
    return sorted(HERE.glob("*.ipynb"))


def execute(paths: list[Path]) -> dict[Path, Any]:
    """Runs every cell of every notebook; each notebook begins with no names, but with libraries already loaded.

    Args:
      paths: In order.
    Returns:
      The notebooks with their outputs; the files stay as they are.
    Raises:
      nbclient.exceptions.CellExecutionError: a cell failed; holds the cell and its traceback.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    notebooks = {path: nbformat.read(path, as_version=4) for path in paths}
    everything = new_notebook(metadata=next(iter(notebooks.values())).metadata)
    for notebook in notebooks.values():
        everything.cells += [new_code_cell("%reset -f"), *notebook.cells]
    NotebookClient(everything, timeout=CELL_SECS, resources={"metadata": {"path": str(HERE)}}, record_timing=False).execute()
    for notebook in notebooks.values():
        codes = (cell for cell in notebook.cells if cell.cell_type == "code")
        for count, cell in enumerate(codes, 1):
            cell.execution_count = count
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = count
    return notebooks


def main() -> None:
    """Executes and writes."""
    import nbformat

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of the runs; none: runs/ beside examples/")
    runs = parser.parse_args().runs
    if runs is not None:
        os.environ["PENNAME_RUNS"] = str(runs.resolve())
    for path, notebook in execute(list_notebooks()).items():
        with write_atomic(path) as handle:
            nbformat.write(notebook, handle)
        print(path)


if __name__ == "__main__":
    main()
