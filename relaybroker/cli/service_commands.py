"""`service`: the broker of a project as a service of systemd (or launchd): install, status, restart, uninstall."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relaybroker.cli.config_commands import config_option, config_path
from relaybroker.cli.exits import Exit, fail
from relaybroker.cli.groups import Group
from relaybroker.cli.options import examples, json_option
from relaybroker.cli.output import say, say_json

if TYPE_CHECKING:
    from relaybroker.service.unit import Service


@click.group(cls=Group)
def service() -> None:
    """Run a project's broker as a service: install, status, restart, uninstall."""


def _which(command: Any) -> Any:
    for option in (
        click.option("--name", default="", help="Name of the broker. Default: the name of the project directory."),
        click.option("--system", is_flag=True, help="Use the system service manager instead of this user's."),
        click.option("--dry-run", is_flag=True, help="Show what would be done, without doing it."),
        config_option,
        json_option,
    ):
        command = option(command)
    return command


@examples(
    "relaybroker service install --dry-run",
    "relaybroker service install",
    "relaybroker service install --system --account relay",
)
@service.command("install")
@click.option("--account", default="", help="Account that runs a --system service. Default: your own.")
@_which
def install(account: str, name: str, system: bool, dry_run: bool, config_file: str | None, as_json: bool) -> None:
    """Write the service file for the project in this directory and start the service. It then starts with the machine."""
    unit = _service(name, config_file, system=system, account=account)
    if dry_run:
        _show(unit, unit.install, as_json=as_json, file=True)
        return
    try:
        unit.path.parent.mkdir(parents=True, exist_ok=True)
        unit.path.write_text(unit.text, encoding="utf-8")
    except PermissionError as error:
        fail(Exit.REFUSED, f"{unit.path} cannot be written: {error.strerror}. Run it as root, or without --system")
    except OSError as error:
        fail(Exit.FAILED, f"{unit.path} cannot be written: {error}")
    _run(unit.install)
    if as_json:
        say_json({"service": unit.name, "file": str(unit.path), "secrets": str(unit.secrets)})
    else:
        say(f"{unit.name} is installed ({unit.path}) and started; variables for it: {unit.secrets}")


@examples("relaybroker service status")
@service.command("status")
@_which
def status(name: str, system: bool, dry_run: bool, config_file: str | None, as_json: bool) -> None:
    """Show whether the service is installed as this version would write it, and what the service manager reports."""
    unit = _service(name, config_file, system=system)
    there = unit.path.is_file()
    same = there and unit.path.read_text(encoding="utf-8") == unit.text
    if dry_run:
        _show(unit, [unit.status], as_json=as_json, file=False)
        return
    if not there:
        fail(
            Exit.NOT_FOUND,
            f"{unit.name} is not installed ({unit.path} is missing). Install it: relaybroker service install",
        )
    done = _manager(unit.status)
    if as_json:
        say_json({"service": unit.name, "file": str(unit.path), "current": same, "active": done.returncode == 0})
    else:
        differs = "" if same else "; this version would write a different file: relaybroker service install"
        say(f"{unit.name}: {unit.path}{differs}")
        for line in (done.stdout + done.stderr).splitlines():
            say(line)
    if done.returncode:
        raise SystemExit(int(Exit.NO_BROKER))


@examples("relaybroker service restart")
@service.command("restart")
@_which
def restart(name: str, system: bool, dry_run: bool, config_file: str | None, as_json: bool) -> None:
    """Restart the broker but not its agents, for example after an upgrade or a change of settings."""
    unit = _service(name, config_file, system=system)
    if dry_run:
        _show(unit, unit.restart, as_json=as_json, file=False)
        return
    _run(unit.restart)
    say_json({"service": unit.name}) if as_json else say(f"{unit.name} is running again; its agents were not touched.")


@examples("relaybroker service uninstall --dry-run")
@service.command("uninstall")
@_which
def uninstall(name: str, system: bool, dry_run: bool, config_file: str | None, as_json: bool) -> None:
    """Stop the service and its agents, and remove its file. Log and settings stay."""
    unit = _service(name, config_file, system=system)
    if dry_run:
        _show(unit, [*unit.uninstall[:1], ["rm", str(unit.path)], *unit.uninstall[1:]], as_json=as_json, file=False)
        return
    if not unit.path.is_file():
        fail(Exit.NOT_FOUND, f"{unit.name} is not installed ({unit.path} is missing).")
    _run(unit.uninstall[:1])
    unit.path.unlink()
    _run(unit.uninstall[1:])
    say_json({"service": unit.name}) if as_json else say(f"{unit.name} is removed; the log stays.")


def _service(name: str, config_file: str | None, *, system: bool, account: str = "") -> Service:
    from relaybroker.cli.config_commands import chosen
    from relaybroker.config.finding import state_directory
    from relaybroker.service.unit import Wanted, launchd, systemd

    config = config_path(config_file)
    place = state_directory(None, os.environ, Path.cwd())
    project = (config.parent if config is not None and config.name == "relaybroker.toml" else place.project).absolute()
    named = name or chosen(config_file).chosen.name or project.name or "project"
    state = os.environ.get("AGENT_RELAY_STATE_DIR", "").strip()
    wanted = Wanted(
        name=named,
        project=project,
        config=None if config is None else config.absolute(),
        state_dir=Path(state).absolute() if state else None,
    )
    if sys.platform == "darwin":
        return launchd(wanted, os.environ)
    return systemd(wanted, os.environ, system=system, account=account or (getpass.getuser() if system else ""))


def _show(unit: Service, commands: list[list[str]], *, as_json: bool, file: bool) -> None:
    if as_json:
        text = {"text": unit.text} if file else {}
        say_json(
            {"service": unit.name, "file": str(unit.path), "secrets": str(unit.secrets), "commands": commands} | text
        )
        return
    if file:
        say(f"# {unit.path}")
        for line in unit.text.splitlines():
            say(line)
        say("# then")
    for command in commands:
        say(shlex.join(command))


def _run(commands: list[list[str]]) -> None:
    for command in commands:
        done = _manager(command)
        if done.returncode:
            fail(
                Exit.FAILED,
                f"{shlex.join(command)} ended with status {done.returncode}: {(done.stderr or done.stdout).strip()}",
            )


def _manager(command: list[str]) -> subprocess.CompletedProcess[str]:
    if shutil.which(command[0]) is None:
        fail(
            Exit.FAILED,
            f"this machine has no {command[0]}. See what would be done: relaybroker service install --dry-run",
        )
    return subprocess.run(command, capture_output=True, text=True, check=False)
