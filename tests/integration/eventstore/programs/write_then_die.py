"""Appends argv[2] records, one per batch, to the journal at argv[1], prints `ready`, then stops or dies."""

import asyncio
import os
import signal
import sys

from relaybroker.adapters.eventstore.journal import Journal
from relaybroker.domain.events import REGISTRY, FrameNoted, Recorded


async def main():
    path, count = sys.argv[1], int(sys.argv[2])
    journal = Journal.open(path, registry=REGISTRY, on_failure=lambda error: sys.exit(3))
    for version in range(journal.position + 1, journal.position + count + 1):
        event = FrameNoted(frame_type="ping", detail=f"note {version}")
        record = Recorded(stream="node:n", version=version, at=1.0, causation="", correlation="", event=event)
        await journal.append([record])
        print(version, os.path.getsize(path + "-wal"), flush=True)
    print("ready", flush=True)
    if sys.stdin.readline() == "stop\n":
        journal.close()
        return
    os.kill(os.getpid(), signal.SIGKILL)


asyncio.run(main())
