"""`config`: every setting, its value and where it is from. `apply`: the fleet of the configuration file, made so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relaybroker.cli import completion
from relaybroker.cli.client import BrokerClient, state_directory
from relaybroker.cli.exits import Exit, fail
from relaybroker.cli.options import examples, json_option, state_option
from relaybroker.cli.output import say, say_json
from relaybroker.cli.tables import table

if TYPE_CHECKING:
    from relaybroker.config.chosen import Choice
    from relaybroker.fleet.applying import Done


def config_option(command: Any) -> Any:
    """Which configuration file counts."""
    text = (
        "Configuration file. Default: RELAYBROKER_CONFIG, else the nearest relaybroker.toml in this directory or above,"
        " else the one in ~/.config/relaybroker."
    )
    return click.option("--config", "config_file", metavar="FILE", help=text, shell_complete=completion.files)(command)


def config_path(option: str | None) -> Path | None:
    """The configuration file that is meant; a named one must be there."""
    from relaybroker.config.finding import config_file

    file = config_file(option, os.environ, Path.cwd())
    if file is not None and not file.is_file():
        fail(Exit.NOT_FOUND, f"there is no configuration file {file}. For every setting: relaybroker config")
    return file


def chosen(option: str | None) -> Choice:
    """The settings of environment and file. Ends the command if they cannot be used."""
    from relaybroker.config.chosen import SettingsError, choose

    try:
        return choose({}, os.environ, config_path(option))
    except SettingsError as error:
        fail(Exit.USAGE, str(error), "settings")


@examples("relaybroker config", "relaybroker config --config relaybroker.toml --json")
@click.command("config")
@config_option
@json_option
def config(config_file: str | None, as_json: bool) -> None:
    """Show every setting with its value, source, variable and meaning. Checks the file and the environment. Shows no secrets."""
    from relaybroker.config.chosen import SECRETS, Chosen, flag_of, variables_of

    choice = chosen(config_file)
    values = choice.chosen.model_dump(mode="json")
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "value": values[name],
            "from": choice.origins[name].kind,
            "written": choice.origins[name].written,
            "default": field.get_default().model_dump() if name == "retention" else field.get_default(),
            "variables": variables_of(name),
            "flag": flag_of(name),
            "says": field.description,
        }
        for name, field in Chosen.model_fields.items()
        if name != "agents"
    ]
    secrets = [
        {"name": name, "variable": variable, "set": variable in os.environ} for name, variable in SECRETS.items()
    ]
    if as_json:
        file = None if choice.file is None else str(choice.file)
        say_json({"file": file, "settings": rows, "secrets": secrets, "agents": values["agents"]})
        return
    say(f"file: {choice.file or 'none; a relaybroker.toml in the directory of the project is found from below it'}")
    say()
    shown: list[tuple[object, ...]] = [
        (
            row["name"],
            _shown(row["value"]),
            row["from"],
            ", ".join((*row["variables"], row["flag"])).strip(", "),
            row["says"],
        )
        for row in rows
    ]
    shown += [(row["name"], "set" if row["set"] else "-", "variable", row["variable"], "A secret.") for row in secrets]
    table(("SETTING", "VALUE", "FROM", "VARIABLE, FLAG", "MEANING"), shown)
    if values["agents"]:
        say()
        fleet = [(name, agent["cli"], ", ".join(agent["channels"])) for name, agent in values["agents"].items()]
        table(("AGENT", "COMMAND", "CHANNELS"), fleet)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} = {one}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    return (
        {None: "-", "": "-", True: "yes", False: "no"}.get(value, str(value))
        if not isinstance(value, int)
        else str(value)
    )


@examples("relaybroker apply", "relaybroker apply --dry-run", "relaybroker apply --json")
@click.command("apply")
@config_option
@state_option
@click.option(
    "--name", default="", help="Name of the broker, if the directory has several.", shell_complete=completion.brokers
)
@click.option("--dry-run", is_flag=True, help="Show what would be done, without doing it.")
@json_option
def apply(config_file: str | None, state_dir: str | None, name: str, dry_run: bool, as_json: bool) -> None:
    """Start, change and stop agents to match the configuration file. Agents started by hand are left alone."""
    from relaybroker.fleet import applying

    choice = chosen(config_file)
    if choice.file is None:
        fail(
            Exit.NOT_FOUND,
            "there is no configuration file. Agents go into it as [agents.NAME]. See: relaybroker config",
        )
    fleet, project = choice.chosen.agents, choice.file.parent
    client = BrokerClient.find(state_dir)
    broker = name or str(client.demand("GET", "/api/status")["node"]["broker"])
    memory = applying.memory_of(state_directory(state_dir), broker)
    done: list[Done] = []
    if dry_run:
        steps = applying.planned(fleet, project, memory, client.ask)
        done = [applying.Done(step, "") for step in steps]
    else:
        done = applying.apply(fleet, project, memory, client.ask, os.environ, lambda _: None)
    if as_json:
        rows = [
            {"name": one.step.name, "step": one.step.kind, "why": one.step.why, "problem": one.problem} for one in done
        ]
        say_json({"dry_run": dry_run, "steps": rows})
    else:
        rows_ = [(one.step.name, one.step.kind, one.problem or one.step.why) for one in done]
        table(("AGENT", "STEP", "WHY"), rows_, empty=f"{choice.file} defines no agents. Add [agents.NAME] with cli.")
    if any(one.problem for one in done):
        raise SystemExit(int(Exit.REFUSED))
