"""Which programs and versions are tried, one broker and one model for them, and what the run says of each.

PROGRAMS="claude codex"   only these          VERSIONS=newest   not the pinned ones, or both: "pinned newest"
RELAYBROKER=…/relaybroker another broker      AGENT_ENV=up      the environment by the broker, not by the spawn
PATIENCE=3                longer waits, for a machine that does other things
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents import homes, install
from tests.agents.bench import PATIENCE, Bench
from tests.agents.model_server import Model, running

HERE = Path(__file__).parent
ROOT = Path(os.environ.get("BENCH_ROOT", "/var/tmp/relaybroker-agents"))
"""Not in /tmp, which codex refuses to trust."""
_results = pytest.StashKey[list[dict[str, Any]]]()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Only who names this folder gets it: `make test` neither needs nor runs the real programs."""
    named = any(HERE in (place := Path(one.split("::")[0]).resolve()).parents or place == HERE for one in config.args)
    return None if named or collection_path == HERE / "conftest.py" else True


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "holds(what): the property that a test of real programs is about")
    config.stash[_results] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(600 * PATIENCE))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    mark = item.get_closest_marker("holds")
    if mark is not None and (report.when == "call" or report.outcome != "passed"):
        subject: Installed | None = getattr(item, "funcargs", {}).get("installed")
        if subject is not None:
            said = report.longreprtext if report.failed else str(report.longrepr[2]) if report.skipped else ""
            item.config.stash[_results].append({
                "program": subject.program, "version": subject.version, "property": mark.args[0],
                "outcome": {"passed": "holds", "failed": "fails"}.get(report.outcome, "not tried"),
                "detail": said[:4000],
            })  # fmt: skip
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what was found, for the table in docs/real-agents.md."""
    results = session.config.stash[_results]
    if results and (place := os.environ.get("RESULTS")):
        entry = {"t": time.strftime("%Y-%m-%d"), "results": results}
        Path(place).write_text(json.dumps(entry, indent=1, ensure_ascii=False))


Installed = install.Installed


def _subjects() -> list[str]:
    programs = os.environ.get("PROGRAMS", " ".join(install.PROGRAMS)).split()
    return [f"{program}-{which}" for program in programs for which in os.environ.get("VERSIONS", "pinned").split()]


@pytest.fixture(scope="session", params=_subjects())
def installed(request: pytest.FixtureRequest) -> Installed:
    """The program that is tried."""
    program, _, which = request.param.rpartition("-")
    try:
        return install.install(program, newest=which == "newest")
    except install.OutOfReachError as error:
        pytest.skip(f"REAL PROGRAM SKIPPED: {program}: {error}")


@pytest.fixture(scope="session")
def model() -> Iterator[Model]:
    """The model server."""
    ROOT.mkdir(parents=True, exist_ok=True)
    with running(ROOT / "requests.jsonl") as server:
        yield server


def new_folder() -> Path:
    """A folder that no run had before: a broker's state belongs to one engine. Short, since a socket lies in it."""
    return ROOT / uuid.uuid4().hex[:8]


Opener = Callable[..., Bench]


@pytest.fixture
def opened(installed: Installed, model: Model) -> Iterator[Opener]:
    """`opened(case)` -> a broker, and a home in which the program asks what `case` names; nothing is spawned."""
    made: list[Bench] = []

    def make(case: str = "", *arguments: str) -> Bench:
        folder = new_folder()
        home = homes.make(installed, folder / "place", model.url, case)
        bench = Bench(folder, model, home._replace(argv=[*home.argv, *arguments]))
        made.append(bench)
        bench.up()
        return bench

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def started(opened: Opener) -> Callable[..., Bench]:
    """`started()` -> a broker with the program as agent w1, its composer empty."""

    def make(*arguments: str) -> Bench:
        bench = opened("", *arguments)
        bench.spawn()
        bench.until_composer()
        bench.until(lambda: bench.agent()["ready"], 70, "ready")
        return bench

    return make


class Live:
    """One agent that tests share as long as it is well."""

    def __init__(self, installed: Installed, model: Model) -> None:
        self._installed, self._model = installed, model
        self._bench: Bench | None = None

    def bench(self) -> Bench:
        """It, with an empty composer and nothing on its way; a new one when it is not."""
        if self._bench is not None and not self._is_well(self._bench):
            self.close()
        if self._bench is None:
            folder = new_folder()
            bench = Bench(folder, self._model, homes.make(self._installed, folder / "place", self._model.url))
            self._bench = bench
            bench.up()
            bench.spawn()
            bench.until_composer()
            bench.until(lambda: bench.agent()["ready"], 70, "ready")
        return self._bench

    @staticmethod
    def _is_well(bench: Bench) -> bool:
        try:
            bench.until(lambda: not bench.api("GET", "/api/status")["pending_delivery_count"], 5, "nothing on its way")
            bench.until_composer(limit_s=5)
        except (AssertionError, OSError):
            return False
        return True

    def close(self) -> None:
        if self._bench is not None:
            self._bench.close()
            self._bench = None


@pytest.fixture(scope="module")
def _live(installed: Installed, model: Model) -> Iterator[Live]:
    live = Live(installed, model)
    yield live
    live.close()


@pytest.fixture
def bench(_live: Live) -> Bench:
    """A broker with the program as agent w1, its composer empty; shared by tests that leave it so."""
    return _live.bench()
