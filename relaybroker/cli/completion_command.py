"""`completion`: what a shell needs to complete our commands, names and ids."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from relaybroker.cli.options import examples
from relaybroker.cli.output import say

SHELLS = ("bash", "zsh", "fish")


@examples(
    "relaybroker completion bash >~/.local/share/bash-completion/completions/relaybroker",
    "relaybroker completion zsh >~/.zfunc/_relaybroker",
    "relaybroker completion fish >~/.config/fish/completions/relaybroker.fish",
)
@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands, names and ids in SHELL.

    Completion queries the broker and the log of the current directory.
    """
    kind = get_completion_class(shell)
    assert kind is not None, "one of SHELLS"
    made = kind(context.find_root().command, {}, "relaybroker", "_RELAYBROKER_COMPLETE")
    for line in made.source().splitlines():
        say(line)
