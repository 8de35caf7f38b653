"""A record maker and journals that are closed after the test."""

from __future__ import annotations

import pytest

from relaybroker.adapters.eventstore.journal import Journal
from relaybroker.domain.events import REGISTRY, FrameNoted, Recorded


@pytest.fixture
def record():
    """record(version, detail, stream) -> Recorded"""

    def make(version, detail="", stream="node:n1"):
        event = FrameNoted(frame_type="ping", detail=detail)
        return Recorded(stream=stream, version=version, at=1.5, causation="node:n1@1", correlation="c", event=event)

    return make


@pytest.fixture
def failures():
    """What `on_failure` of the journals of `open_journal` was called with."""
    return []


@pytest.fixture
def open_journal(failures):
    """open_journal(path or None, **options) -> Journal; closed after the test."""
    opened = []

    def make(path, **options):
        text = None if path is None else str(path)
        journal = Journal.open(text, registry=REGISTRY, on_failure=failures.append, **options)
        opened.append(journal)
        return journal

    yield make
    for journal in opened:
        journal.close()
