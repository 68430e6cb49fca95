"""A client of the pages, and a run to look at."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from penname.run_dir import RunDir
from penname.web.access import Access
from penname.web.app import Site, create_app
from penname.web.runs import RunFolder
from tests.web_run import write_web_run

HOST = "localhost:8765"
ORIGIN = {"Origin": f"http://{HOST}"}


class Visitor:
    """A browser without a screen: keeps cookies, sends forms from our own pages."""

    def __init__(self, app: Any, host: str = HOST) -> None:
        self.client = TestClient(app, base_url=f"http://{host}", follow_redirects=False, raise_server_exceptions=False)
        self.origin = {"Origin": f"http://{host}"}

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(path, **options)

    def post(self, path: str, fields: dict[str, Any], **options: Any) -> httpx.Response:
        return self.client.post(path, data=fields, headers=self.origin | options.pop("headers", {}), **options)

    def begin(self, name: str, run: str = "run") -> None:
        """Gives a name to judge under."""
        assert self.post(f"/run/{run}/rate/name", {"name": name, "mode": "single"}).status_code == 303

    def read_item(self, path: str = "/run/run/rate") -> dict[str, str]:
        """The hidden fields of the page that is to be judged."""
        found = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', self.get(path).text))
        assert "item" in found
        return found


GOOD = {"categories": ["good"], "naturalness": "4", "fits": "yes", "origin": "real"}


@pytest.fixture(scope="session")
def _written_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_web_run(tmp_path_factory.mktemp("web") / "run").root


@pytest.fixture
def web_run(_written_run: Path, tmp_path: Path) -> RunDir:
    return RunDir(Path(shutil.copytree(_written_run, tmp_path / "runs" / "run")))


@pytest.fixture
def visit(web_run: RunDir) -> Callable[..., Visitor]:
    """Opens the folder of runs, by default without a token."""
    apps: dict[Any, Any] = {}

    def make(*, token: str | None = None, host: str = "127.0.0.1", called: str = HOST, num_per_arm: int = 8, allowed: tuple[str, ...] = ()) -> Visitor:
        key = (token, host, num_per_arm, allowed)
        if key not in apps:
            site = Site(RunFolder(web_run.root.parent), Access.open(host, token, allowed), cookie_name="penname_session_8765")
            site.num_per_arm = num_per_arm
            apps[key] = create_app(site)
        return Visitor(apps[key], called)

    return make


@pytest.fixture
def visitor(visit: Callable[..., Visitor]) -> Visitor:
    return visit()
