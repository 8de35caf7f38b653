"""Programs as real processes, and journals of this process, ended after the test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from relaybroker.adapters.eventstore.journal import Journal
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.domain.events import REGISTRY

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture
def run():
    """run(program, *arguments) -> Popen with text pipes; killed after the test"""
    started = []

    def start(program, *arguments):
        command = [sys.executable, str(PROGRAMS / f"{program}.py"), *map(str, arguments)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def open_journal():
    opened = []

    def make(path):
        journal = Journal.open(str(path), registry=REGISTRY, on_failure=pytest.fail)
        opened.append(journal)
        return journal

    yield make
    for journal in opened:
        journal.close()


@pytest.fixture
def open_reader():
    opened = []

    def make(path):
        reader = LogReader.open(path, registry=REGISTRY)
        opened.append(reader)
        return reader

    yield make
    for reader in opened:
        reader.close()
