"""The other end of `generation_engines.py`: a program in an environment of its own loads a model, then writes texts as often as it is told."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Text = dict[str, Any]
"""prompt: tokens; length: tokens to write, exactly; seed: of this text alone."""
Write = Callable[[list[Text]], list[list[int]]]
"""From texts to their tokens, in the same order."""


def serve(load: Callable[[dict[str, Any]], tuple[Write, dict[str, Any]]]) -> None:
    """Loads by the file given on the command line, says what it is, then answers every line of orders with a line of tokens and seconds."""
    # Libraries print what they like; the answers go where standard output was.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    began = time.perf_counter()
    write, facts = load(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    say({**facts, "load_secs": round(time.perf_counter() - began, 1)})
    for line in sys.stdin:
        texts: list[Text] = json.loads(line)
        began = time.perf_counter()
        token_ids = write(texts)
        secs = time.perf_counter() - began
        say({"secs": secs, "token_ids": token_ids})
    # Some libraries end badly when Python takes them apart.
    os._exit(0)


def sort_into_batches(texts: list[Text], batch_size: int) -> list[list[int]]:
    """Places of the texts, by length of text and of prompt, cut into batches: for engines that wait for the longest."""
    order = sorted(range(len(texts)), key=lambda i: (texts[i]["length"], len(texts[i]["prompt"])))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def convert_once(folder: Path, convert: Callable[[Path], None]) -> float:
    """Seconds of a conversion that leaves a folder; zero where it is there."""
    if folder.exists():
        return 0.0
    began = time.perf_counter()
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    convert(unfinished)
    unfinished.rename(folder)
    return round(time.perf_counter() - began, 1)
