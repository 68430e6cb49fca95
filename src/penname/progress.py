"""Progress with time left on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

_LINE_EVERY_SECS = 15.0


class Progress:
    """One long piece of work; `advance` it as parts are done."""

    def __init__(self, label: str, total: float, *, done: float = 0.0, show_bar: bool) -> None:
        self.label, self.total, self.done = label, total, done
        self._start_done, self._start = done, time.monotonic()
        self._last_line = self._start
        self._bar, self._task = None, None
        if show_bar:
            from rich.console import Console
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
            self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(label, total=total or None, completed=int(done))

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Says that `amount` more of the total is done; `note` is a short state such as a loss."""
        self.done += amount
        if self._bar is not None and self._task is not None:
            text = f"{self.label}  {note}" if note else self.label
            self._bar.update(self._task, completed=self.done, description=text)
        elif time.monotonic() - self._last_line >= _LINE_EVERY_SECS:
            self._last_line = time.monotonic()
            print(f"{self.label}: {self._state()}{'  ' + note if note else ''}", file=sys.stderr, flush=True)

    def _state(self) -> str:
        if not self.total:
            return f"{self.done:,.0f}"
        rate = (self.done - self._start_done) / max(time.monotonic() - self._start, 1e-9)
        left = (self.total - self.done) / rate if rate > 0 else float("inf")
        shown = f", about {format_secs(left)} left" if left < float("inf") else ""
        return f"{self.done:,.0f} of {self.total:,.0f} ({100 * self.done / self.total:.0f} %){shown}"

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def show_progress(label: str, total: float = 0, *, done: float = 0.0) -> Generator[Progress]:
    """Shows progress on standard error while the block runs; `total` 0 means unknown."""
    progress = Progress(label, total, done=done, show_bar=sys.stderr.isatty())
    try:
        yield progress
    finally:
        progress.close()


def say(line: str) -> None:
    """One line for the person who waits, on standard error."""
    print(line, file=sys.stderr, flush=True)


def format_secs(secs: float) -> str:
    """Seconds as a person says them: `8 s`, `3 min 20 s`, `2 h 05 min`.

    >>> format_secs(200)
    '3 min 20 s'
    """
    secs = round(secs)
    if secs < 60:
        return f"{secs} s"
    if secs < 3600:
        return f"{secs // 60} min {secs % 60:02d} s"
    return f"{secs // 3600} h {secs % 3600 // 60:02d} min"
