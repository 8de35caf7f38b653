"""What a real agent finds in its environment and leaves in a person's files when its broker was started anywhere but in a clean shell."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.waiting import WAIT_S

AGENTS = Path(__file__).parent / "agents"
HOSTILE = {
    "CI": "true",
    "NO_COLOR": "1",
    "TMUX": "/tmp/tmux-0/default,1,0",
    "STY": "1.x",
    "COLUMNS": "211",
    "LINES": "7",
    "TERM": "dumb",
    "TERM_PROGRAM": "iTerm.app",
    "CLAUDECODE": "1",
    "CLAUDE_CODE_SSE_PORT": "12345",
    "PROMPT_COMMAND": "history -a",
    "PAGER": "cat",
    "ANTHROPIC_BASE_URL": "http://127.0.0.1:9",
    "MY_TEAM_TOKEN": "t-1",
    "RELAYBROKER_AGENT_ENV": "MY_TEAM_*",
}
WORDS = "the staging password is correct-horse-battery"


@asynccontextmanager
async def started_from(make_deployment, folder, **environment):
    """A deployment whose broker was started with these variables."""
    made = make_deployment(folder, **environment)
    made.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT_S))
    try:
        await made.start()
        await made.meet()
        yield made
    finally:
        await made.close()


def environment_of(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.partition("=")[::2] for pair in pairs if pair)


async def test_an_agent_gets_a_terminals_environment_from_a_broker_that_was_started_in_another(
    make_deployment, tmp_path
):
    """F116."""
    async with started_from(make_deployment, tmp_path, **HOSTILE) as deployment:
        await deployment.spawn("ann")
        environment = environment_of(deployment.pids["ann"])
    gone = HOSTILE.keys() - {"TERM", "ANTHROPIC_BASE_URL", "MY_TEAM_TOKEN"}
    assert not gone & environment.keys()
    assert (environment["TERM"], environment["COLORTERM"]) == ("xterm-256color", "truecolor")
    assert (environment["ANTHROPIC_BASE_URL"], environment["MY_TEAM_TOKEN"]) == ("http://127.0.0.1:9", "t-1")
    assert environment["RELAY_AGENT_NAME"] == "ann"


@pytest.mark.parametrize("shell", ["bash", "zsh", "ksh", "fish"])
async def test_a_shell_leaves_nothing_of_an_agents_terminal_in_the_persons_history(make_deployment, tmp_path, shell):
    """ADR-0036."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    home = tmp_path / "home"
    home.mkdir()
    (home / ".zshrc").write_text("SAVEHIST=100\nHISTSIZE=100\n")
    (home / ".bash_history").write_text("git status\n")
    hostile = {"HOME": str(home), "HISTFILE": str(home / ".bash_history"), "PROMPT_COMMAND": "history -a"}
    async with started_from(make_deployment, tmp_path, **hostile) as deployment:
        status, answer = await deployment.api("POST", "/api/spawn", {"name": "w1", "cli": shell})
        assert status == 200, answer
        await deployment.until_api(lambda shown: shown["agents"][0]["ready"], "the shell is ready")
        await deployment.api("POST", "/api/input/w1", {"data": f"echo '{WORDS}' | tr a-z A-Z\r"})
        await on_screen(deployment, "CORRECT-HORSE")
        await deployment.api("POST", "/api/input/w1", {"data": "exit\r"})
        await deployment.until(lambda: not Path(f"/proc/{answer['pid']}").exists(), "the shell ended")
    kept = [path for path in home.rglob("*") if path.is_file() and b"correct-horse" in path.read_bytes()]
    assert kept == []


async def on_screen(deployment, words: str) -> None:
    for _ in range(200):
        _, screen = await deployment.api("GET", "/api/spawned/w1/snapshot?format=plain")
        if words in str(screen):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(screen)


async def test_what_a_spawn_names_is_in_the_environment_and_nowhere_else(deployment, monkeypatch):
    """I7, TYPED-ONCE: also not in the log, the arguments, or a file once the program runs."""
    monkeypatch.setenv("SHARED_KEY", "secret-two")
    words = (
        "agent",
        "spawn",
        "--harness",
        "default",
        "--env",
        "MY_KEY=secret-one",
        "--env",
        "SHARED_KEY",
        "--json",
        "ann",
    )
    done = deployment.command(*words, "env", "LATE=1", sys.executable, str(AGENTS / "note_taker.py"), "notes")
    assert done.returncode == 0, done.stderr
    pid = json.loads(done.stdout)["pid"]
    environment = environment_of(pid)
    assert (environment["MY_KEY"], environment["SHARED_KEY"], environment["LATE"]) == ("secret-one", "secret-two", "1")
    deployment.kill_broker()
    await deployment.start()
    exported = deployment.command("log", "export", "--session").stdout + deployment.command("log", "export").stdout
    assert '"env_names":["MY_KEY","SHARED_KEY"]' in exported.replace(", ", ",").replace(": ", ":")
    assert '"harness":"default"' in exported.replace(": ", ":")
    assert "secret-" not in exported
    assert "secret-" not in deployment.tail()
    kept = [path for path in deployment.folder.rglob("*") if path.is_file() and b"secret-one" in path.read_bytes()]
    assert kept == []


async def test_an_unknown_harness_is_refused_with_the_nearest(deployment):
    done = deployment.command("agent", "spawn", "--harness", "cluade", "ann", "cat")
    assert done.returncode == 5
    assert "claude" in done.stderr
    assert (await deployment.status())["agents"] == []


HELPERS = """
import signal, subprocess, sys, time
signal.signal(signal.SIGHUP, signal.SIG_IGN)
children = [subprocess.Popen(["sleep", "600"], start_new_session=new, stdin=subprocess.DEVNULL) for new in (False, True)]
print("children", *(child.pid for child in children), flush=True)
if sys.argv[1:] == ["ends"]:
    sys.exit(0)
time.sleep(600)
"""


@pytest.mark.parametrize("how", ["is released", "ends"])
async def test_a_daemon_of_an_agent_goes_with_it(deployment, is_alive, how):
    """W8, F109."""
    (deployment.folder / "helpers.py").write_text(HELPERS)
    command = f"sh -c 'read go; exec {sys.executable} helpers.py {how.split()[0]}'"
    status, answer = await deployment.api("POST", "/api/spawn", {"name": "w1", "cli": command})
    assert status == 200, answer
    log = deployment.state / "team" / "worker-logs" / "w1.log"
    await deployment.api("POST", "/api/input/w1", {"data": "\r"})
    await deployment.until(lambda: b"children" in log.read_bytes(), "the helpers run")
    in_session, in_its_own = map(int, log.read_bytes().partition(b"children ")[2].split()[:2])
    if how == "is released":
        assert (await deployment.api("DELETE", "/api/spawned/w1"))[0] == 200
    await deployment.until(lambda: not is_alive(in_session), "the helper in the agent's session is gone")
    await deployment.until(lambda: not is_alive(in_its_own), "the daemon is gone")
