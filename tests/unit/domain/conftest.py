"""Worlds for the tests of the core."""

from __future__ import annotations

import pytest

from tests.world import World


@pytest.fixture
def make_world():
    return World


@pytest.fixture
def world() -> World:
    """A world whose broker is online."""
    made = World()
    made.start()
    made.online()
    return made
