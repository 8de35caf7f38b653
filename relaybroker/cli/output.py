"""What commands print. Names, texts and reasons come from other machines: whatever a terminal would act on is spelled out, everywhere.

Nothing in this folder prints in another way (`attach` and `progress` excepted, which show a terminal); a test holds that.

With `--json` a command prints one JSON value: an array if it lists things, else an object; a failure is an object with `error`. `log tail`,
`log grep` and `log export` print one object per line. Times are ISO 8601 in UTC; names ending in `_secs`, `_ms` or `_s` are durations.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import click

from relaybroker.audit.times import iso
from relaybroker.domain.plain_text import plain


def say(line: object = "", *, err: bool = False, bold: bool = False) -> None:
    """Print one line, to standard error if `err`."""
    text = plain(str(line))
    click.echo(click.style(text, bold=True) if bold and "NO_COLOR" not in os.environ else text, err=err)


def say_json(value: Mapping[str, Any] | Sequence[Any], *, indent: int | None = 2) -> None:
    """Print an object or a list as JSON, in which nothing acts either: letters stay, the rest is escaped as JSON has it."""
    text = json.dumps(
        _with_moments(dict(value) if isinstance(value, Mapping) else list(value)), ensure_ascii=False, indent=indent
    )
    lines = text.split("\n")  # a line feed of a text is escaped already
    click.echo("\n".join(line if line.isascii() and line.isprintable() else _escaped(line) for line in lines))


def _escaped(line: str) -> str:
    return "".join(one if plain(one) == one else json.dumps(one)[1:-1] for one in line)


def _with_moments(value: Any, key: str = "") -> Any:
    """The same with moments (`at`, `…_at`, in epoch seconds) as people and programs read them. What a log recorded stays as it is."""
    if isinstance(value, dict):
        return {name: one if name in ("body", "detail") else _with_moments(one, name) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_with_moments(one) for one in value]
    if isinstance(value, float) and (key in ("at", "since") or key.endswith("_at")):
        return iso(value) if value > 0 else None
    return value
