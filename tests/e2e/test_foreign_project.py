"""relaybroker in somebody's own project, installed from its wheel: whatever that project calls its packages, none of them runs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from tests.waiting import WAIT_S

ROOT = Path(__file__).parents[2]
SESSION = ROOT / "fixtures" / "sessions" / "gap-and-hole.jsonl"
THEIRS = ("click.py", "adapters/__init__.py", "adapters/sessions.py")
TEST = """
    from domain import events

    def test_a_message_arrives(simulated_broker):
        simulated_broker.spawn("planner")
        simulated_broker.expect_acked(simulated_broker.deliver("planner", "hello"))
        assert events.MINE
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The built wheel."""
    return Path(next(iter(WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("dist"))))))


@pytest.fixture
def installed(wheel, tmp_path):
    """Where it was unpacked."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    return tmp_path / "site"


@pytest.fixture
def project(tmp_path):
    """A project with a `domain` of its own, and files that say it when they are run."""
    folder = tmp_path / "project"
    for name in THEIRS:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"open({str(folder / 'RAN')!r}, 'a').write({name!r})\n", encoding="utf-8")
    (folder / "domain").mkdir()
    (folder / "domain" / "__init__.py").touch()
    (folder / "domain" / "events.py").write_text("MINE = True\n", encoding="utf-8")
    (folder / "tests").mkdir()
    (folder / "tests" / "test_theirs.py").write_text(textwrap.dedent(TEST), encoding="utf-8")
    return folder


def test_the_wheel_has_one_root_and_its_types(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"relaybroker"}
    assert "relaybroker/py.typed" in names
    assert any(
        name.startswith("relaybroker/adapters/sessions/terminal/harnesses/") and name.endswith(".toml")
        for name in names
    )


def test_nothing_of_a_project_runs_in_it(project, installed, tmp_path):
    """A user's pytest, `up --detach` and `replay`, started where `click.py` and `adapters` are somebody else's."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("RELAY", "AGENT_RELAY", "PYTEST"))
    }
    environment |= {"PYTHONPATH": str(installed), "AGENT_RELAY_STATE_DIR": str(tmp_path / "state")}
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        (tmp_path / name).mkdir(mode=0o700)
        environment[name] = str(tmp_path / name)

    def run(*command):
        return subprocess.run(
            command, cwd=project, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=WAIT_S,
        )  # fmt: skip

    entry = [sys.executable, "-P", "-c", "import sys; from relaybroker.cli import main; sys.exit(main())"]
    where = run(sys.executable, "-P", "-c", "import relaybroker.domain.events as it; print(it.__file__)")
    assert where.stdout.startswith(str(installed)), where.stdout + where.stderr
    tested = run(
        sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "pythonpath=.", "tests",
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout + tested.stderr
    replayed = run(*entry, "replay", str(SESSION))
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    up = run(*entry, "up", "--detach", "--name", "theirs")
    try:
        assert up.returncode == 0, up.stderr
        spawned = run(*entry, "agent", "spawn", "w1", "--", "cat")
        assert spawned.returncode == 0, spawned.stderr
    finally:
        down = run(*entry, "down")
    assert down.returncode == 0, down.stderr
    assert not (project / "RAN").exists(), (project / "RAN").read_text()
