"""Command of the PTY host: `python -m relaybroker.adapters.sessions.host.host_main --socket PATH --log PATH --pid-file PATH`.

Detaches itself (own session, no terminal, standard error to an owner-only rotated log), takes the socket's lock,
writes its
pid and serves until told to end. Exits with 75 when another host serves the socket, 78 when the socket's place is not
safe. The option `--ready-fd N` names an inherited descriptor that is closed after one byte when the socket listens.
"""

from __future__ import annotations

import sys

# asyncio imports ssl for transports that the host never uses; without it the process is about 4 MiB smaller.
sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]  # None makes `import ssl` fail, as in a Python without it

import gc  # noqa: E402  # after the line above

gc.disable()  # nothing that is imported is garbage: looking for some is a twentieth of the start

import argparse  # noqa: E402
import asyncio  # noqa: E402
import faulthandler  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
from pathlib import Path  # noqa: E402

from relaybroker.adapters import descriptors  # noqa: E402
from relaybroker.adapters.log_lines import LogLines  # noqa: E402
from relaybroker.adapters.sessions.host.host import Host  # noqa: E402
from relaybroker.adapters.sessions.host.kin import become_subreaper  # noqa: E402
from relaybroker.adapters.sessions.host.living_hosts import NUDGE  # noqa: E402
from relaybroker.adapters.sessions.host.local_socket import AlreadyServed, Place, SocketRefused  # noqa: E402
from relaybroker.adapters.sessions.host.orphans import SessionRecord  # noqa: E402
from relaybroker.adapters.sessions.host.rotating_file import RotatingFile  # noqa: E402

EXIT_ALREADY_SERVED = 75
EXIT_REFUSED = 78

_logger = logging.getLogger("relaybroker.adapters.sessions.host.host_main")


class _LogHandler(logging.Handler):
    def __init__(self, file: RotatingFile) -> None:
        super().__init__()
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._file.write(self.format(record).encode("utf-8", "replace") + b"\n")
        except OSError:
            self.handleError(record)


def main(arguments: list[str] | None = None) -> int:
    """Run the host; returns the exit status (in the detached process)."""
    parser = argparse.ArgumentParser(prog="pty-host", description=__doc__)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--pid-file", required=True)
    parser.add_argument("--ready-fd", type=int, default=None)
    parser.add_argument("--foreground", action="store_true", help="stay a child of the caller")
    parser.add_argument("--open-files", type=int, default=None, help="limit of open files that agents get")
    options = parser.parse_args(arguments)
    descriptors.raise_limit(options.open_files)
    return _run(options, () if options.foreground else _detach())


def _detach() -> tuple[int, ...]:
    """Become a process of nobody: the caller's child ends at once, its child leads a session without terminal.

    Returns the numbers of the processes that we were.
    """
    former = [os.getpid()]
    if os.fork() > 0:
        os._exit(0)
    os.setsid()
    former.append(os.getpid())
    if os.fork() > 0:
        os._exit(0)
    return tuple(former)


def _run(options: argparse.Namespace, ancestors: tuple[int, ...]) -> int:
    umask = os.umask(0o077)
    try:
        place = Place(options.socket, options.pid_file, ancestors)
    except AlreadyServed as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_ALREADY_SERVED
    except (SocketRefused, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_REFUSED
    _redirect(options.log)
    record = SessionRecord(f"{options.socket}.sessions")
    if ended := record.end_orphans():
        _logger.warning("ended what a killed host left behind: %s", ended)
    doors = Path(options.socket).absolute().parent / "doors"
    place.write_pid()
    is_subreaper = become_subreaper()
    if options.ready_fd is not None:
        os.write(options.ready_fd, b"\n")
        os.close(options.ready_fd)
    faulthandler.enable()
    gc.freeze()
    gc.enable()
    try:
        asyncio.run(_serve(place, umask, record, doors, subreaper=is_subreaper))
        record.close()
    finally:
        place.leave()
    return 0


async def _serve(place: Place, umask: int, record: SessionRecord, doors: Path, *, subreaper: bool) -> None:
    host = Host(umask, record, subreaper=subreaper, doors=doors)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, host.end)
    loop.add_signal_handler(NUDGE, host.nudge)
    loop.add_signal_handler(signal.SIGCHLD, host.reap)
    _logger.info("host %s, pid %d, serves", host.host_id, os.getpid())
    await host.serve(place)
    _logger.info("host %s ends", host.host_id)


def _redirect(log: str) -> None:
    file = RotatingFile(log)
    file.become(2)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    handler = _LogHandler(file)
    handler.setFormatter(LogLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


if __name__ == "__main__":
    sys.exit(main())
