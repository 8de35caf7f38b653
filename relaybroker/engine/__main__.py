"""`python -m relaybroker.engine`: the embedded engine as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sqlite3
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from relaybroker.serving.without_tls import import_aiohttp_without_tls

gc.disable()  # nothing that is imported is garbage: looking for some is a twentieth of the start
import_aiohttp_without_tls()

from relaybroker.engine.server import serve  # noqa: E402  # after the lines above


def _write_ready_file(path: str, base_url: str) -> None:
    """Say where the engine listens: complete or absent, readable by its owner only."""
    handle, name = tempfile.mkstemp(dir=Path(path).parent)
    with os.fdopen(handle, "w") as file:
        json.dump({"url": base_url, "port": urlsplit(base_url).port, "pid": os.getpid()}, file)
    Path(name).replace(path)


async def _run(options: argparse.Namespace) -> None:
    def ready(base_url: str) -> None:
        if options.ready_file:
            _write_ready_file(options.ready_file, base_url)
        sys.stdout.write(f"relaybroker engine listening on {base_url}\n")
        sys.stdout.flush()

    task = asyncio.create_task(
        serve(options.db, options.host, options.port, options.socket, port_later=options.port_later, ready=ready)
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main() -> None:
    """Parse the command line and serve until SIGTERM or SIGINT."""
    gc.freeze()
    gc.enable()
    parser = argparse.ArgumentParser(prog="python -m relaybroker.engine", description=__doc__)
    parser.add_argument("--db", required=True, help="database file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8787, help="0 = chosen by the system")
    parser.add_argument("--socket", default="", help="Unix socket to listen on as well, for its owner only")
    parser.add_argument(
        "--port-later",
        action="store_true",
        help="serve the socket while another program has the port, and take the port once it is free",
    )
    parser.add_argument("--ready-file", default="", help="written once the engine is listening")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_run(options))
        except (sqlite3.Error, OSError, ValueError) as error:
            sys.exit(f"relaybroker engine: cannot serve {options.db} on port {options.port}: {error}")


if __name__ == "__main__":
    main()
