"""Appends batches to the journal at argv[1] for ever; prints each position, one a line, as soon as it is written."""

import asyncio
import random
import sys

from relaybroker.adapters.eventstore.journal import Journal
from relaybroker.domain.events import REGISTRY, FrameNoted, Recorded


def record(version, size):
    event = FrameNoted(frame_type="ping", detail="x" * size)
    stream = f"delivery:{version % 7}"
    return Recorded(stream=stream, version=version, at=1.0, causation="", correlation="", event=event)


async def main():
    journal = Journal.open(sys.argv[1], registry=REGISTRY, on_failure=lambda error: sys.exit(3))
    version = journal.position
    while True:
        await journal.room()
        sizes = [random.randint(0, 3000) for _ in range(random.randint(1, 20))]
        batch = [record(version + n, size) for n, size in enumerate(sizes, 1)]
        version += len(batch)
        written = asyncio.get_running_loop().create_future()
        written.add_done_callback(lambda done: print(done.result(), flush=True))
        durable = journal.append(batch, written)
        if random.random() < 0.3:
            await random.choice((written, durable))


asyncio.run(main())
