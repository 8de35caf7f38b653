"""B12, F134, KEEP-BYTES: whatever bytes of a stopped broker's database are flipped or cut off, it is refused or says the truth.

About 3 seconds.
"""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaybroker.adapters.eventstore import earlier_events
from relaybroker.adapters.eventstore.errors import StateCorrupt
from relaybroker.adapters.eventstore.journal import Journal
from relaybroker.domain.errors import CorruptLog
from relaybroker.domain.events import REGISTRY, FrameNoted, Recorded

pytestmark = pytest.mark.slow

PAGE = 4096


class Log:
    """Files by name, what they say, and a directory to put damaged copies into; short when Hypothesis prints it."""

    def __init__(self, files, batch, home):
        self.files = files
        self.batch = batch
        self.home = home


def opened(path):
    return Journal.open(str(path), registry=REGISTRY, on_failure=pytest.fail)


async def _write(path, batch):
    journal = opened(path)
    await journal.append(batch)
    journal.close()


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A small log of a stopped broker."""
    home = tmp_path_factory.mktemp("log")
    batch = [
        Recorded(
            stream=f"delivery:{version % 5}",
            version=version,
            at=float(version),
            causation="",
            correlation="m",
            event=FrameNoted(frame_type="ping", detail="detail " * (version % 30)),
        )
        for version in range(1, 61)
    ]
    asyncio.run(_write(home / "journal.db", batch))
    return Log({file.name: file.read_bytes() for file in home.iterdir()}, batch, home)


def says(path):
    journal = opened(path)
    try:
        records = [record for _, record in journal.read()]
        streams = {record.stream for record in records}
        return records, {stream: journal.read_stream(stream) for stream in streams}
    finally:
        journal.close()


def check(log, damaged):
    files, batch, home = log.files, log.batch, log.home
    for file in home.iterdir():
        file.unlink()
    for name, content in {**files, "journal.db": damaged}.items():
        (home / name).write_bytes(content)
    try:
        records, streams = says(home / "journal.db")
    except (StateCorrupt, CorruptLog):
        assert (home / "journal.db").read_bytes() == damaged
        assert {file.name for file in home.iterdir()} == set(files)
    else:
        assert records == batch
        assert streams == {stream: [r for r in batch if r.stream == stream] for stream in streams}


places = st.integers(0, 2**20)
"""A place in a file, modulo its length."""


@settings(max_examples=max(200, settings.default.max_examples), deadline=None)
@given(flips=st.lists(st.tuples(places, st.integers(1, 255)), min_size=1, max_size=3))
def test_flipped_bits_are_refused_or_harmless(log, flips):
    whole = bytearray(log.files["journal.db"])
    for place, bits in flips:
        whole[place % len(whole)] ^= bits
    check(log, bytes(whole))


def test_every_byte_of_the_header_matters_or_does_not(log):
    for place in range(100):
        whole = bytearray(log.files["journal.db"])
        whole[place] ^= 0xFF
        check(log, bytes(whole))


CASE_OF_A_LETTER = 0x20


@pytest.mark.parametrize("mask", [0x01, CASE_OF_A_LETTER, 0x80])
def test_a_damaged_name_of_an_index_or_view_is_refused_or_made_again(log, mask):
    """0x20 changes the case of a letter: SQLite then reads the schema, but cannot change it."""
    content = log.files["journal.db"]
    for definition in earlier_events.definitions():
        start = content.find(definition.sql.encode()[:40])
        assert start > 0
        for place in range(start, start + 40, 1 if mask == CASE_OF_A_LETTER else 3):
            whole = bytearray(content)
            whole[place] ^= mask
            check(log, bytes(whole))


@settings(max_examples=60, deadline=None)
@given(target=places, source=places | st.none())
def test_a_zeroed_or_repeated_page_is_refused_or_harmless(log, target, source):
    whole = log.files["journal.db"]
    pages = [whole[start : start + PAGE] for start in range(0, len(whole), PAGE)]
    pages[target % len(pages)] = bytes(PAGE) if source is None else pages[source % len(pages)]
    check(log, b"".join(pages))


@settings(max_examples=60, deadline=None)
@given(length=places)
def test_a_cut_off_database_is_refused(log, length):
    whole = log.files["journal.db"]
    check(log, whole[: length % len(whole)])
    with pytest.raises((StateCorrupt, CorruptLog)):
        says(log.home / "journal.db")
