"""What a process does not load as it starts: each of these would cost every start 10 to 100 ms of CPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from relaybroker.domain.command_line import SECRET_VARIABLES
from tests.waiting import WAIT_S

_SERVING = ("asyncio", "uvloop", "aiohttp", "pydantic", "pydantic_settings", "eventsourcing", "transitions", "psutil")
_DRAWING = ("textual", "rich", "wcwidth", "difflib", "pyte", "jinja2")
_COMMAND = """
sys.argv = ['relaybroker', *{words}]
from relaybroker.cli import main
try:
    main()
except SystemExit:
    pass
"""
_STUB = """
import types
def run(*_):
    import aiohttp.connector, prometheus_client.exposition
    print('TLS' if aiohttp.connector.ssl else 'plain', gc.isenabled())
    return 0
import gc
sys.modules['relaybroker.node.bootstrap'] = types.SimpleNamespace(run=run)
"""
"""In the place of the broker: says what it would begin with."""


def said(code: str, **environ: str) -> str:
    """The last line that a new process prints that runs the code; of the environment's secrets it has none."""
    kept = {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}"],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
        env=kept | environ,
    )
    return done.stdout.splitlines()[-1]


def loaded(names: tuple[str, ...]) -> str:
    """Code that prints which of these modules are loaded."""
    return f"print([name for name in {names} if sys.modules.get(name)], flush=True)\n"


@pytest.mark.parametrize("words", [["status"], ["agent", "ls"]])
def test_a_command_that_asks_a_broker_loads_neither_what_serves_nor_what_draws(words, tmp_path):
    code = _COMMAND.format(words=[*words, "--state-dir", str(tmp_path)])
    assert said(code + loaded(_SERVING + _DRAWING)) == "[]"


def test_a_broker_with_keys_has_loaded_nothing_heavy_when_it_starts_itself_anew(tmp_path):
    code = f"import os\ndef execve(*_):\n    {loaded(_SERVING + _DRAWING)}    os._exit(0)\nos.execve = execve\n"
    code += _COMMAND.format(words=["up", "--state-dir", str(tmp_path)])
    assert said(code, RELAY_WORKSPACE_KEY="rk_live_secret") == "[]"


@pytest.mark.parametrize(
    ("engine", "expected"),
    [("", "plain True"), ("http://127.0.0.1:1", "plain True"), ("https://127.0.0.1:1", "TLS True")],
)
def test_a_broker_reads_certificates_only_for_an_engine_that_has_one(engine, expected, tmp_path):
    code = _STUB + _COMMAND.format(words=["up", "--state-dir", str(tmp_path)])
    assert said(code, HOME=str(tmp_path), RELAY_BASE_URL=engine) == expected


def test_the_embedded_engine_reads_no_certificates():
    code = "import relaybroker.engine.__main__, aiohttp.connector\n"
    assert said(f"{code}print(aiohttp.connector.ssl)") == "None"


def test_the_host_loads_neither_what_serves_http_nor_what_keeps_a_log():
    names = (*(name for name in _SERVING if name != "asyncio"), "ssl", "sqlite3", "click", "http.client", "email")
    assert said("import relaybroker.adapters.sessions.host.host_main\n" + loaded(names)) == "[]"
