"""The embedded engine of one state directory: found if it lives, started if it does not, and never two of them.

It is a process of its own in its own session, so that it survives the broker; it keeps its database and, over restarts,
its port. Whoever starts or ends it holds a lock file meanwhile.

Source: design/architecture.md section 7; spec/local-api.md sections 4.6 and 7.4.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import os
import socket
import stat
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import psutil

from relaybroker.adapters.file_lock import exclusive_lock
from relaybroker.adapters.own_programs import own_program
from relaybroker.adapters.private_files import make_private_directory, open_log, read_plain, read_private, write_private
from relaybroker.adapters.unix_address import address_of
from relaybroker.agents.launch import scrubbed
from relaybroker.config.connection_file import Pid, Port
from relaybroker.domain.decoding import NOT_READABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOST = "127.0.0.1"
SOCKET = "engine.sock"
"""Beside the database: the broker's own way to its engine, which nobody can take from it as they can a port."""
START_S = 10.0
"""How long a started engine may take until it answers."""
END_S = 1.0
"""From SIGTERM to SIGKILL."""
LIFE_SIGN_S = 5.0
"""How long an engine that runs may take to answer that it does."""
SILENT_S = 15.0
"""After which an engine that does not answer is no longer relied on."""
HUNG_S = 40.0
"""After which it is ended and another one started on its database."""
_MODULE = "relaybroker.engine"
_STEP_S = 0.02
_WATCH_S = 1.0
_log = logging.getLogger(__name__)
_children: dict[int, subprocess.Popen[bytes]] = {}
"""Engines that this process started, so that their end is noticed; at most one of each directory lives."""
_REQUEST_S = 1.0


class EngineStartError(Exception):
    """The embedded engine does not answer; the text says where its log is."""


class RunningEngine(NamedTuple):
    """A living embedded engine."""

    url: str
    pid: int
    started_now: bool
    """False when it was found alive."""


class _Record(msgspec.Struct):
    """What is remembered of the engine, in `<state>/engine/engine.json`."""

    pid: Pid
    port: Port


class _Ready(msgspec.Struct):
    """What the engine writes when it listens; it may say more."""

    port: Port


async def find_or_start(directory: Path) -> RunningEngine:
    """The one engine of this directory, answering.

    Args:
        directory: `<state>/engine`; made if it is missing.

    Raises:
        EngineStartError: it did not start.
        OSError: the directory cannot be used.
    """
    return await asyncio.to_thread(_find_or_start, directory)


async def keep_alive(directory: Path, on_silence: Callable[[], None]) -> None:
    """Start the engine of this directory again, on its port, whenever it has died or hangs. Runs until it is cancelled.

    Args:
        directory: `<state>/engine`.
        on_silence: called when the engine lives and does not answer: whoever waits for it should not.
    """
    record = await asyncio.to_thread(_recall, directory)
    answered = time.monotonic()
    is_reported = False
    while True:
        await asyncio.sleep(_WATCH_S)
        try:
            record = await asyncio.to_thread(_revive, directory, record)
            silent = record is not None and not await asyncio.to_thread(_answers, directory, record.port, LIFE_SIGN_S)
            if not silent:
                answered, is_reported = time.monotonic(), False
            elif time.monotonic() - answered >= SILENT_S and not is_reported:
                is_reported = True
                _log.warning("the embedded engine has not answered for %g s", SILENT_S)
                on_silence()
            elif record is not None and time.monotonic() - answered >= HUNG_S:
                _log.warning("the embedded engine hangs; restarting it")
                await asyncio.to_thread(_end_hung, directory, record)
                answered, is_reported = time.monotonic(), False
        except OSError as error:  # no descriptors or no space now: there may be some at the next look
            _log.warning("the embedded engine cannot be supervised: %s", error)


def has_socket(directory: Path) -> bool:
    """Whether the engine of this directory listens on a socket of its own."""
    try:
        return stat.S_ISSOCK((directory / SOCKET).lstat().st_mode)
    except OSError:
        return False


async def end(directory: Path, grace_s: float = END_S) -> bool:
    """End the engine of this directory and return when it is gone; False if none lived. Its database stays.

    Args:
        directory: `<state>/engine`.
        grace_s: from SIGTERM to SIGKILL.
    """
    return await asyncio.to_thread(_end, directory, grace_s)


def _find_or_start(directory: Path) -> RunningEngine:
    make_private_directory(directory)
    with exclusive_lock(directory / "engine.lock"):
        record = _recall(directory)
        process = _engine_of(directory, record)
        if process is not None:
            port = (
                record.port
                if record is not None and record.pid == process.pid
                else _reported_port(directory / "ready.json")
            )
            if port is not None and _eventually(lambda: _answers(directory, port), START_S / 2):
                _remember(directory, _Record(pid=process.pid, port=port))
                return RunningEngine(_url(port), process.pid, started_now=False)
            _stop(process, END_S)
        wanted = record.port if record is not None else 0
        started = _start(directory, wanted) or (_start(directory, 0) if wanted else None)
        if started is None:
            raise EngineStartError(f"the embedded engine did not start; see {directory / 'engine.log'}")
        _remember_new(directory, started)
        return RunningEngine(_url(started.port), started.pid, started_now=True)


def _revive(directory: Path, last: _Record | None) -> _Record | None:
    """The engine that runs now, as far as is known; one that died is started again. `last`: the one that ran before."""
    record = _recall(directory)
    if record is not None and _process(directory, record.pid) is not None:
        return record
    if record is None and last is None:
        return None
    with exclusive_lock(directory / "engine.lock"):
        record = _recall(directory) or last
        assert record is not None, "it was known before"
        if _process(directory, record.pid) is not None:  # another broker was faster, or the record was removed
            _remember(directory, record)
            return record
        started = _start(directory, record.port, "--port-later")
        if started is None:
            _log.error("the embedded engine died and does not restart on port %d; see its log", record.port)
            return None
        _log.warning("the embedded engine died and was restarted")
        _remember_new(directory, started)
        return started


def _end_hung(directory: Path, record: _Record) -> None:
    """End this very engine, unless another broker has done so."""
    with exclusive_lock(directory / "engine.lock"):
        if (process := _process(directory, record.pid)) is not None and not _answers(
            directory, record.port, LIFE_SIGN_S
        ):
            _stop(process, END_S)


def _remember(directory: Path, record: _Record) -> None:
    if record != _recall(directory):
        write_private(directory / "engine.json", msgspec.json.encode(record))


def _remember_new(directory: Path, record: _Record) -> None:
    """Remember an engine that was just started; one that cannot be remembered (a full disk) is not left behind."""
    try:
        _remember(directory, record)
    except OSError:
        if (process := _process(directory, record.pid)) is not None:
            _stop(process, END_S)
        raise


def _end(directory: Path, grace_s: float) -> bool:
    if not directory.exists():
        return False
    with exclusive_lock(directory / "engine.lock"):
        process = _engine_of(directory, _recall(directory))
        if process is not None:
            _stop(process, grace_s)
        if has_socket(directory):
            (directory / SOCKET).unlink(missing_ok=True)  # who copies the directory stumbles over it
        return process is not None


def _start(directory: Path, port: int, *more: str) -> _Record | None:
    """A new engine on this port (0 = any), when it answers; None, and no process left, when it does not."""
    ready = directory / "ready.json"
    ready.unlink(missing_ok=True)
    (directory / SOCKET).unlink(missing_ok=True)
    log = open_log(directory / "engine.log")
    try:
        process = subprocess.Popen(
            own_program(
                _MODULE,
                "--db",
                str(_database(directory)),
                "--host",
                HOST,
                "--port",
                str(port),
                "--socket",
                SOCKET,
                "--ready-file",
                str(ready),
                *more,
            ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=directory,
            env=scrubbed(os.environ) | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            start_new_session=True,
        )
    finally:
        log.close()

    def has_reported() -> bool:
        return process.poll() is not None or _reported_port(ready) is not None

    _eventually(has_reported, START_S)
    reported_port = _reported_port(ready)
    if (
        process.poll() is None
        and reported_port is not None
        and _eventually(lambda: _answers(directory, reported_port), START_S)
    ):
        for pid in [pid for pid, child in _children.items() if child.poll() is not None]:
            del _children[pid]
        _children[process.pid] = process
        return _Record(pid=process.pid, port=reported_port)
    process.kill()
    process.wait()
    return None


def _reported_port(ready: Path) -> int | None:
    with suppress(FileNotFoundError, *NOT_READABLE):
        return msgspec.json.decode(read_plain(ready), type=_Ready).port
    return None


def _recall(directory: Path) -> _Record | None:
    with suppress(FileNotFoundError, *NOT_READABLE):
        return msgspec.json.decode(read_private(directory / "engine.json"), type=_Record)
    return None


def _process(directory: Path, pid: int) -> psutil.Process | None:
    """The process of this pid if it is the engine of this very directory (a pid may belong to somebody else by now)."""
    with suppress(psutil.Error, ValueError, OverflowError):
        process = psutil.Process(pid)
        words = process.cmdline()
        if process.status() != psutil.STATUS_ZOMBIE and _MODULE in words and str(_database(directory)) in words:
            return process
    return None


def _engine_of(directory: Path, record: _Record | None) -> psutil.Process | None:
    """The living engine of this directory: the recorded one, or one whose record a cleaner has removed."""
    if record is not None and (process := _process(directory, record.pid)) is not None:
        return process
    if not _database(directory).exists():  # no engine ever ran here
        return None
    for candidate in psutil.process_iter():
        if (process := _process(directory, candidate.pid)) is not None:
            return process
    return None


def _stop(process: psutil.Process, grace_s: float) -> None:
    with suppress(psutil.NoSuchProcess):
        process.terminate()
        try:
            process.wait(grace_s)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait()
    if child := _children.pop(process.pid, None):
        child.wait()


class _ByPath(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__(HOST, timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(address_of(self._path))


def _answers(directory: Path, port: int, limit_s: float = _REQUEST_S) -> bool:
    """Whether the engine answers `GET /health`: on its socket, and on its port if it is of a version without one."""
    connection = (
        _ByPath(directory / SOCKET, limit_s)
        if has_socket(directory)
        else http.client.HTTPConnection(HOST, port, timeout=limit_s)
    )
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _eventually(holds: Callable[[], bool], limit_s: float) -> bool:
    """Wait until it holds; False at the end of the limit. Runs in a thread, never on the event loop."""
    deadline = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_STEP_S)
    return True


def _database(directory: Path) -> Path:
    return directory / "engine.sqlite"


def _url(port: int) -> str:
    return f"http://{HOST}:{port}"
