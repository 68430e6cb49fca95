"""Makes an environment for each peer: python benchmarks/peers/make_environments.py [NAME ...]

They stand in $PENNAME_PEERS, or penname-peers in the temporary folder. Each has its own packages and, after them, those of the environment
that this runs in (torch, transformers, peft, opacus), so that peers and penname compute with the same libraries and a gigabyte is saved.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

PACKAGES: dict[str, tuple[str, ...]] = {
    # It asks for an Opacus that is not on PyPI; this one runs.
    "dptrainer": ("dptrainer==0.1.2", "datasets", "pandas", "dill", "multiprocess", "pytz"),
    # torchvision and torchaudio, which it asks for, break transformers beside this torch and are not needed for text.
    "mostlyai": ("mostlyai-engine==2.7.3", "datasets", "pandas", "psutil<6", "json-repair", "xgrammar", "dill", "multiprocess", "pytz"),
}


def find_python(name: str) -> Path:
    """The interpreter of a peer's environment, whether it exists or not."""
    folder = Path(os.environ.get("PENNAME_PEERS") or Path(tempfile.gettempdir()) / "penname-peers")
    return folder / name / "bin" / "python"


def make_environment(name: str) -> None:
    """Makes the environment of one peer where there is none. It appears whole: its interpreter is looked for, and comes last."""
    python = find_python(name)
    if python.exists():
        return
    folder = python.parents[1]
    building = folder.with_name(f"{name}.{os.getpid()}")
    subprocess.run([sys.executable, "-m", "venv", str(building)], check=True)  # noqa: S603
    site = sysconfig.get_path("purelib", vars={"base": str(building), "platbase": str(building)}, scheme="venv")
    Path(site, "shared_packages.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    install = [str(building / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", *PACKAGES[name]]
    subprocess.run(install, check=True)  # noqa: S603
    building.rename(folder)


def main() -> None:
    """Makes those asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"any of {', '.join(PACKAGES)}")
    names = parser.parse_args().names or list(PACKAGES)
    for name in names:
        if name not in PACKAGES:
            parser.error(f"{name}: no such peer; there are {', '.join(PACKAGES)}")
        make_environment(name)
        print(find_python(name))


if __name__ == "__main__":
    main()
