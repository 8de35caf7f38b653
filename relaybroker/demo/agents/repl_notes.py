"""Makes a Python REPL note every line that was entered: run as `python -i -q repl_notes.py RECEIVED_FILE`.

The prompt objects are asked for their text before each line is read; whatever came into the history since then was entered.
"""

import readline
import sys
from pathlib import Path


class _Prompt:
    """A prompt that notes what was entered before it is shown."""

    noted = 0

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        length = readline.get_current_history_length()
        with Path(sys.argv[1]).open("a", encoding="utf-8") as received:
            received.writelines(
                f"{readline.get_history_item(index)}\n" for index in range(_Prompt.noted + 1, length + 1)
            )
        _Prompt.noted = length
        return self.text


sys.ps1, sys.ps2 = _Prompt(">>> "), _Prompt("... ")
