"""A project with a configuration file: its agents run after `up`, and change with `apply`."""

from __future__ import annotations

import json

FILE = """
name = "desk"
default_channels = ["build"]

[agents.writer]
cli = "cat"
channels = ["general"]

[agents.reader]
cli = "cat -v"
env_from = ["READER_TOKEN"]
"""


def test_the_agents_of_the_file_run_and_change_with_it(desk):
    file = desk.folder / "relaybroker.toml"
    file.write_text(FILE)
    up = desk.run("up", "--detach", "--json")
    assert up.returncode == 5, "one agent could not be started"
    assert "READER_TOKEN is not set" in str(json.loads(up.stdout)["fleet"])
    applied = desk.run("apply", "--json", READER_TOKEN="t")
    assert applied.returncode == 0, applied.stdout
    assert {(row["name"], row["step"]) for row in json.loads(applied.stdout)["steps"]} == {
        ("writer", "keep"),
        ("reader", "start"),
    }
    file.write_text(FILE.partition("[agents.reader]")[0].replace('"cat"', '"cat -u"'))
    dry = desk.run("apply", "--dry-run", "--json")
    steps = [("reader", "stop"), ("writer", "restart")]
    assert [(row["name"], row["step"]) for row in json.loads(dry.stdout)["steps"]] == steps
    assert [(row["name"], row["step"]) for row in json.loads(desk.run("apply", "--json").stdout)["steps"]] == steps
    agents = {row["name"]: row["cli"] for row in json.loads(desk.run("agent", "ls", "--json").stdout)}
    assert agents == {"writer": "cat -u"}
    shown = json.loads(desk.run("config", "--json").stdout)
    assert shown["file"] == str(file)
    settings = {row["name"]: (row["value"], row["from"]) for row in shown["settings"]}
    assert settings["default_channels"] == (["build"], "file")
    assert settings["in_doubt"] == ("ask", "default")
    file.write_text("nmae = 1")
    wrong = desk.run("config")
    assert (wrong.returncode, "Did you mean name" in wrong.stderr) == (2, True)
    assert desk.run("down").returncode == 0
