"""What commands print acts on no terminal and forges no line: by construction, since there is one way to print."""

from __future__ import annotations

import ast
import json
import logging
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaybroker.cli.output import say, say_json
from relaybroker.domain.plain_text import plain
from relaybroker.node import logs

CLI = Path(__file__).parents[3] / "relaybroker" / "cli"
ACTS = ("Cc", "Cf", "Cs", "Zl", "Zp")


@given(st.text() | st.text(st.characters(categories=ACTS)))
def test_nothing_that_acts_is_left_and_the_rest_is_untouched(text):
    shown = plain(text)
    assert not [one for one in shown if unicodedata.category(one) in ACTS]
    if not any(unicodedata.category(one) in ACTS for one in text):
        assert shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Grüße, 你好 😀", "Grüße, 你好 😀"),
        ("a\nb", r"a\nb"),
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("\x9b31m", r"\x9b31m"),
        ("abc\u202edcba", r"abc\u202edcba"),
        ("\U000e0041", r"\U000e0041"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_acts_is_spelled_out(text, shown):
    assert plain(text) == shown


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text())))
def test_json_means_the_same_and_acts_nowhere(capsys_disabled, value):
    shown = capsys_disabled(lambda: say_json(value))
    assert json.loads(shown) == json.loads(json.dumps(value))
    assert not [one for one in shown if unicodedata.category(one) in ACTS and one != "\n"]


@pytest.fixture(scope="module")
def capsys_disabled():
    """Runs something, and gives what it printed."""
    import contextlib
    import io

    def run(work):
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
        with contextlib.redirect_stdout(out):
            work()
            out.flush()
        return out.buffer.getvalue().decode("utf-8")

    return run


def test_one_call_is_one_line(capsys_disabled):
    assert capsys_disabled(lambda: say("x\r\n#1  forged")) == "x\\r\\n#1  forged\n"


def test_no_command_prints_in_another_way():
    """`click.echo`, `print` and writes to a standard stream occur in `output.py` alone; `attach.py` shows a terminal."""
    ways = {("click", "echo"), ("click", "secho"), ("stdout", "write"), ("stderr", "write")}
    prints = []
    for path in CLI.glob("*.py"):
        if path.name in ("output.py", "attach.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            match node.func:
                case ast.Name(id="print"):
                    prints.append(f"{path.name}:{node.lineno}")
                case ast.Attribute(value=ast.Name(id=of) | ast.Attribute(attr=of), attr=name) if (of, name) in ways:
                    prints.append(f"{path.name}:{node.lineno}")
    assert prints == []


def test_a_reason_of_a_peer_is_one_line_of_the_log_file(tmp_path):
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    root = logging.getLogger()
    kept, level = root.handlers[:], root.level
    handler = logs.configure("it", environ)
    try:
        logging.getLogger("link").warning("closed: %s", "bye\n2026-11-28 00:00:00,000 ERROR link: forged\x1b[2J")
        handler.flush()
    finally:
        root.handlers[:] = kept
        root.setLevel(level)
        handler.close()
    (line,) = (logs.directory(environ) / "it.log").read_text(encoding="utf-8").splitlines()
    assert line.endswith(r"WARNING link: closed: bye\n2026-11-28 00:00:00,000 ERROR link: forged\x1b[2J")
