"""Appends to the journal at argv[1] while no file may grow past argv[2] bytes; prints positions, then how it failed."""

import asyncio
import resource
import sys

from relaybroker.adapters.eventstore.errors import JournalFailed
from relaybroker.adapters.eventstore.journal import Journal
from relaybroker.domain.events import REGISTRY, FrameNoted, Recorded


async def main():
    failures = []
    journal = Journal.open(sys.argv[1], registry=REGISTRY, on_failure=failures.append)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    version = 0
    try:
        while True:
            version += 1
            event = FrameNoted(frame_type="ping", detail="x" * 1000)
            record = Recorded(stream="s", version=version, at=1.0, causation="", correlation="", event=event)
            print(await journal.append([record]), flush=True)
    except JournalFailed as error:
        print("failed", type(error.__cause__).__name__, len(failures), flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        await journal.append([record])
    except JournalFailed:
        print("still failed", len(failures), flush=True)
    journal.close()


asyncio.run(main())
