"""Programs that other people wrote import the host's protocol by the name that it had before the session host had rooms."""

from __future__ import annotations

import importlib

import pytest


@pytest.mark.parametrize("name", ["framing", "protocol", "harnesses"])
def test_a_module_is_found_by_its_former_name(name):
    assert importlib.import_module(f"relaybroker.adapters.pty.{name}").__doc__


def test_what_a_program_of_others_says_by_the_former_names_is_what_the_host_says():
    framing = importlib.import_module("relaybroker.adapters.pty.framing")
    protocol = importlib.import_module("relaybroker.adapters.pty.protocol")
    now = importlib.import_module("relaybroker.adapters.sessions.host.protocol")
    assert protocol.PROTOCOL_VERSION == now.PROTOCOL_VERSION
    assert framing.encode.__doc__
