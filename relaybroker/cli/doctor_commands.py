"""`doctor`: everything that can be checked without changing anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from relaybroker.cli.client import state_directory
from relaybroker.cli.config_commands import config_option, config_path
from relaybroker.cli.exits import Exit
from relaybroker.cli.options import examples, json_option, state_option
from relaybroker.cli.output import say, say_json

if TYPE_CHECKING:
    from relaybroker.doctor.findings import Finding

_SIGNS = {"ok": "ok   ", "doubtful": "look ", "broken": "BROKEN"}


@examples("relaybroker doctor", "relaybroker doctor --json")
@click.command("doctor")
@config_option
@state_option
@json_option
def doctor(config_file: str | None, state_dir: str | None, as_json: bool) -> None:
    """Check machine, settings, files, log, processes, link and agents, with a remedy for each problem.

    Exit status 1 if something is broken.
    """
    import msgspec

    findings = list(_findings(config_file, state_dir))
    if as_json:
        say_json([msgspec.to_builtins(one) for one in findings])
    else:
        for one in findings:
            say(f"{_SIGNS[one.grade]:<7}{one.subject:<14} {one.says}", bold=one.grade == "broken")
            if one.next:
                say(f"{'':<22}-> {one.next}")
    if any(one.grade == "broken" for one in findings):
        raise SystemExit(int(Exit.FAILED))


def _findings(config_file: str | None, state_dir: str | None) -> Iterator[Finding]:
    from relaybroker.doctor import broker, machine

    state = state_directory(state_dir)
    yield from machine.program()
    yield from machine.settings(config_path(config_file), os.environ)
    yield from machine.places(state, os.environ)
    if state.is_dir():
        yield from broker.log(state)
        yield from broker.processes(state)
        yield from broker.answers(state)
