"""Command of the PTY host: `python -m adapters.pty.host_main --socket PATH --log PATH --pid-file PATH`.

Detaches itself (own session, no terminal, standard error to an owner-only rotated log), takes the socket's lock,
writes its
pid and serves until told to end. Exits with 75 when another host serves the socket, 78 when the socket's place is not
safe. The option `--ready-fd N` names an inherited descriptor that is closed after one byte when the socket listens.
"""

from __future__ import annotations

import sys

# asyncio imports ssl for transports that the host never uses; without it the process is about 4 MiB smaller.
sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]  # None makes `import ssl` fail, as in a Python without it

import argparse  # noqa: E402  # after the line above
import asyncio  # noqa: E402
import faulthandler  # noqa: E402
import gc  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

from adapters.pty.host import Host  # noqa: E402
from adapters.pty.local_socket import AlreadyServed, SocketRefused, listen  # noqa: E402
from adapters.pty.orphans import SessionRecord  # noqa: E402
from adapters.pty.rotating_file import RotatingFile  # noqa: E402

if TYPE_CHECKING:
    import socket

EXIT_ALREADY_SERVED = 75
EXIT_REFUSED = 78

_logger = logging.getLogger("adapters.pty.host_main")


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
    options = parser.parse_args(arguments)
    if not options.foreground:
        _detach()
    return _run(options)


def _detach() -> None:
    """Become a process of nobody: the caller's child ends at once, its child leads a session without terminal."""
    if os.fork() > 0:
        os._exit(0)
    os.setsid()
    if os.fork() > 0:
        os._exit(0)


def _run(options: argparse.Namespace) -> int:
    umask = os.umask(0o077)
    try:
        listener, lock = listen(options.socket)
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
    pid_file = Path(options.pid_file)
    pid_file.write_text(f"{os.getpid()}\n", "ascii")
    if options.ready_fd is not None:
        os.write(options.ready_fd, b"\n")
        os.close(options.ready_fd)
    faulthandler.enable()
    gc.freeze()
    try:
        asyncio.run(_serve(listener, umask, record))
        record.close()
    finally:
        Path(options.socket).unlink(missing_ok=True)
        pid_file.unlink(missing_ok=True)
        os.close(lock)
    return 0


async def _serve(listener: socket.socket, umask: int, record: SessionRecord) -> None:
    host = Host(umask, record)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, host.end)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _logger.info("host %s, pid %d, serves", host.host_id, os.getpid())
    await host.serve(listener)
    _logger.info("host %s ends", host.host_id)


def _redirect(log: str) -> None:
    file = RotatingFile(log)
    file.become(2)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    handler = _LogHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


if __name__ == "__main__":
    sys.exit(main())
