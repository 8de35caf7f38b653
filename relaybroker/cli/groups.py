"""A tree of commands that are imported when they are asked for, and that knows what was meant by a misspelt one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from relaybroker.cli.border import as_command_error, require_text
from relaybroker.cli.exits import Exit, show
from relaybroker.config.nearest import did_you_mean

_OTHER_WORDS = {"list": "ls", "rm": "release", "delete": "release", "stop": "down", "start": "up"}
"""What other tools call the same; understood, and not shown."""


class Group(click.Group):
    """A group that names the nearest command to an unknown one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the words begin with. Ends with a usage error that names what was meant, if there is none."""
        args = [_OTHER_WORDS.get(args[0], args[0]), *args[1:]] if self.get_command(ctx, args[0]) is None else args
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"no command named {args[0]!r}.{did_you_mean(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


class Tree(Group):
    """The whole command: its commands by name, each with module, attribute and one sentence."""

    def __init__(self, commands: dict[str, tuple[str, str, str]], hidden: frozenset[str], **more: Any) -> None:
        super().__init__(**more)
        self._commands, self._hidden = commands, hidden

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command that is shown."""
        del ctx
        return [name for name in self._commands if name not in self._hidden]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        del ctx
        if cmd_name not in self._commands:
            return None
        module, attribute, _ = self._commands[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._commands[name][2]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a failure that any command can meet becomes a sentence and a status."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if (sentence := as_command_error(error)) is None:
                raise
            raise sentence from error

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, *_: Any, **more: Any) -> NoReturn:
        """Run the command and end with its status; a failure is said as the caller reads: in words or as JSON."""
        words = list(sys.argv[1:] if args is None else args)
        more["standalone_mode"] = False
        try:
            require_text(words)
            status = super().main(words, prog_name, **more)
        except click.ClickException as error:
            status = show(error, as_json=wants_json(words))
        except (click.Abort, KeyboardInterrupt):
            status = 130
        sys.exit(status if isinstance(status, int) else int(Exit.DONE))


def wants_json(words: Sequence[str]) -> bool:
    """Whether the command line asks for JSON; what stands behind `--` is another program's."""
    own = words[: words.index("--")] if "--" in words else words
    return "--json" in own
