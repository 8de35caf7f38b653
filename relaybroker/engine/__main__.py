"""`python -m relaybroker.engine`: the embedded engine as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import tempfile
from pathlib import Path

from relaybroker.engine.server import EmbeddedEngine, serve


def _write_ready_file(path: str, engine: EmbeddedEngine) -> None:
    """Say where the engine listens: complete or absent, readable by its owner only."""
    folder = Path(path).parent
    handle, name = tempfile.mkstemp(dir=folder)
    with os.fdopen(handle, "w") as file:
        json.dump({"url": engine.base_url, "port": engine.port, "pid": os.getpid()}, file)
    Path(name).replace(path)


async def _run(options: argparse.Namespace) -> None:
    def ready(engine: EmbeddedEngine) -> None:
        if options.ready_file:
            _write_ready_file(options.ready_file, engine)
        print(f"relaybroker engine listening on {engine.base_url}", flush=True)  # noqa: T201 - the one line of this program

    task = asyncio.ensure_future(serve(options.db, options.host, options.port, ready=ready))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


def main() -> None:
    """Parse the command line and serve until a signal."""
    parser = argparse.ArgumentParser(prog="python -m relaybroker.engine", description=__doc__)
    parser.add_argument("--db", required=True, help="database file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8787, help="0 = chosen by the system")
    parser.add_argument("--ready-file", default="", help="written once the engine listens")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(_run(options))


if __name__ == "__main__":
    main()
