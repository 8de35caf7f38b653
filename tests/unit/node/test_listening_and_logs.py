from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from relaybroker.config.settings import Flags, take_settings
from relaybroker.node import logs
from relaybroker.node.listening import listen, shown_host


class Surface:
    """Binds nothing; refuses the ports that are taken."""

    def __init__(self, *taken: int) -> None:
        self.taken = taken
        self.asked: list[int] = []

    async def bind(self, _host: str, port: int) -> int:
        self.asked.append(port)
        if port in self.taken:
            raise OSError("address in use")
        return port or 4000 + len(self.asked)


def settings(**flags: Any) -> Any:
    return take_settings(Flags(**flags), {}, Path("/p"))


async def test_the_banner_is_one_line_and_the_port_is_remembered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    surface: Any = Surface()
    first = await listen(surface, settings(), tmp_path / "memory.json", "br_x")
    assert capsys.readouterr().out == "[agent-relay] API listening on http://127.0.0.1:4001\n"
    assert (first.port, first.pid) == (4001, os.getpid())
    assert (await listen(surface, settings(), tmp_path / "memory.json", "br_x")).port == 4001
    assert surface.asked == [0, 4001]


async def test_a_remembered_port_that_is_taken_gives_way(tmp_path: Path) -> None:
    surface: Any = Surface()
    await listen(surface, settings(), tmp_path / "memory.json", "br_x")
    again: Any = Surface(4001)
    assert (await listen(again, settings(), tmp_path / "memory.json", "br_x")).port == 4002


async def test_a_chosen_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    surface: Any = Surface(7000)
    with pytest.raises(OSError, match="port 7000"):
        await listen(surface, settings(api_port=7000), tmp_path / "memory.json", "br_x")
    assert surface.asked == [7000]


async def test_a_bind_beyond_this_machine_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    surface: Any = Surface()
    connection = await listen(surface, settings(api_bind="0.0.0.0"), tmp_path / "memory.json", "br_x")
    assert connection.url.startswith("http://127.0.0.1:")
    assert "controls this broker" in caplog.text


def test_addresses_are_shown_as_a_client_writes_them() -> None:
    assert [shown_host(bind) for bind in ("0.0.0.0", "::", "::1", "localhost", "")] == [
        "127.0.0.1",
        "[::1]",
        "[::1]",
        "localhost",
        "127.0.0.1",
    ]


# --- logs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def root_logger() -> Any:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield root
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    for handler in before:
        root.addHandler(handler)
    root.setLevel(level)


def test_logs_go_to_a_private_daily_file(tmp_path: Path, root_logger: logging.Logger) -> None:
    logs.configure("desk-1", {"HOME": str(tmp_path)})
    root_logger.warning("something")
    [file] = (tmp_path / ".local/state/agentworkforce/relay/logs").iterdir()
    assert file.name == "desk-1.log"
    assert "something" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(("choice", "kind"), [("off", logging.NullHandler), ("stderr", logging.StreamHandler)])
def test_logs_go_elsewhere_when_asked(tmp_path: Path, root_logger: logging.Logger, choice: str, kind: type) -> None:
    handler = logs.configure("desk-1", {"HOME": str(tmp_path)}, to=choice)
    assert isinstance(handler, kind)
    assert not list(tmp_path.iterdir())
