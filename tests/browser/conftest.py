"""The real program, answering a real Chromium. A page that logs an error, fails or asks for anything outside fails its test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from penname.run_dir import write_rows
from tests.web_run import LONG, make_record, write_web_run

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str:
    """The Chromium of this machine; without one these tests fail, they are not skipped."""
    given = os.environ.get("PENNAME_CHROMIUM")
    found = given or next((path for name in CHROMIUM_NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail("no Chromium is installed; apt-get install chromium (.ci/run does), name one in PENNAME_CHROMIUM, or leave these out: -m 'not browser'")
    return found


@dataclass
class Server:
    """`penname serve` at work."""

    folder: Path
    address: str
    process: subprocess.Popen[str]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)
        assert self.process.stdout
        self.process.stdout.close()


def start_server(folder: Path, *options: str) -> Server:
    """Starts the command and waits for its first line."""
    arguments = [sys.executable, "-m", "penname.cli", "serve", str(folder), "--port", "0", *options]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    line = process.stdout.readline()
    assert line, "penname serve said nothing"
    return Server(folder, line.split()[1].partition("?")[0].rstrip("/"), process)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A finished run, a second one to compare with, and one that goes on."""
    folder = tmp_path_factory.mktemp("served")
    write_web_run(folder / "run")
    write_web_run(folder / "other", shift=-0.2)
    write_web_run(folder / "on", done=("ingest", "records"))
    write_web_run(folder / "judged")
    long = write_web_run(folder / "long", num=1)
    for name, label in (("test_records", "real"), ("synthetic_with_dp", "with_dp"), ("synthetic_no_dp", "no_dp")):
        write_rows(long.path(name), [make_record(label, 0, text=LONG)])
    server = start_server(folder, "--sample", "8")
    yield server
    server.kill()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Watched:
    """What a page did that it must not."""

    address: str
    faults: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", lambda request: None if request.url.startswith((self.address, "data:")) else self.faults.append(f"request: {request.url}"))
        page.on("dialog", lambda dialog: (self.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _hear(self, message: ConsoleMessage) -> None:
        # That an answer lacks a part is said with status 422, which Chromium logs.
        if message.type in ("error", "warning") and "status of 422" not in message.text:
            self.faults.append(f"console: {message.text}")


@pytest.fixture
def open_page(chromium: Browser, served: Server) -> Iterator[Callable[..., Page]]:
    """Opens a page of its own cookies; at the end none of them may have done what it must not."""
    watched, contexts = Watched(served.address), []

    def make(**options: Any) -> Page:
        context = chromium.new_context(base_url=served.address, **({"viewport": {"width": 1280, "height": 860}} | options))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        watched.watch(page)
        return page

    yield make
    for context in contexts:
        context.close()
    assert watched.faults == []
