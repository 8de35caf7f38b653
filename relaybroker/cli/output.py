"""What commands print. Names, texts and reasons come from other machines: whatever a terminal would act on is spelled out, everywhere.

Nothing in this folder prints in another way (`attach` excepted, which shows a terminal); a test holds that.
"""

from __future__ import annotations

import json
from typing import Any

import click

from relaybroker.domain.plain_text import plain


def say(line: object = "", *, err: bool = False, bold: bool = False) -> None:
    """Print one line, to standard error if `err`."""
    text = plain(str(line))
    click.echo(click.style(text, bold=True) if bold else text, err=err)


def say_json(value: Any, *, indent: int | None = 2) -> None:
    """Print a value as JSON, in which nothing acts either: letters stay, the rest is escaped as JSON has it."""
    lines = json.dumps(value, ensure_ascii=False, indent=indent).split("\n")  # a line feed of a text is escaped already
    click.echo("\n".join(line if line.isascii() and line.isprintable() else _escaped(line) for line in lines))


def _escaped(line: str) -> str:
    return "".join(one if plain(one) == one else json.dumps(one)[1:-1] for one in line)
