"""Random messages that would do something in some shell or interpreter, were any of it typed."""

from __future__ import annotations

from random import Random

MARK = "M4rk"
"""In every message: whatever a shell remembers of one has it."""
TRACE = "ran-"
"""Beginning of the name of every file that a message would make."""

_SIGNS = [
    *";|&$()<>{}[]*?~!^#%=+-\\'\"`@:/,.",
    "&&",
    "||",
    ";;",
    "<<END",
    "<<<",
    ">>",
    "2>&1",
    "$((",
    "${",
    "$'",
    "\\\n",
]
_WHITE = ["\n", "\r", "\r\n", "\t", " ", "  ", "\v", "\f", "\u00a0", "\u2028", "\u2029", "\u3000"]
_CONTROL = [
    *map(chr, range(32)), "\x7f", "\x1b[200~", "\x1b[201~", "\x1b[6n", "\x1b[c", "\x1b]52;c;dG91Y2g=\x07", "\x1bc", "\x1b[A\r",
    "\x1bOM", "\x9b6n", "\x8f", "\x15", "\x17", "\x16\r", "\x18\x05", "\x12ran\r", "\x1b\x1b", "\x1b[12;40R", "\x11\x13",
]  # fmt: skip
_FORMAT = [
    "\u200b",
    "\u200d",
    "\u202e",
    "\u2066",
    "\ufeff",
    "\u00ad",
    "\U000e0041",
    "\U000e007f",
    "\u0301",
    "\ufe0f",
    "\ud800",
]
_WORDS = [
    "Grüße",
    "你好",
    "\U0001f600",
    "END",
    "EOF",
    "done",
    "fi",
    "esac",
    "}",
    "exit",
    "logout",
    "quit",
    "q",
    "y",
    "yes",
    "1",
    "~",
    "-n",
]
_HISTORY = ["!!", "!$", "!-1", "!touch", "!?ran?", "^touch^ran^", "!!:p", "!#", "fc -s", "r touch"]
_GLOBS = ["*", "/*", "~root", "{a,b}", "[a-z]*", "$HOME", "$(<ran)", "**/*"]
_COMMANDS = [
    "touch {t}", "; touch {t}", "\ntouch {t}\n", "$(touch {t})", "`touch {t}`", "| touch {t}", "> {t}", "&& touch {t} &", "(touch {t})",
    "{{ touch {t}; }}", "\rtouch {t}\r", "'; touch {t}; '", '"; touch {t}; "', "END\ntouch {t}\n", "done; touch {t}", ")); touch {t}",
    "{m}_v=1", "export {m}_v=1", "set {m}_v = 1", "set -g {m}_v 1", "alias {m}_a=ls", "alias {m}_a ls", "{m}_f() {{ :; }}",
    "function {m}_f; end", "def {m}_f(): pass", "{m}_v = 1\n", "var {m}_v = 1;", "global {m}_v;", "sleep 600 &", "nohup sleep 600 &",
    "exec sleep 600", "kill -STOP $$", "cd /", "bind -x '\"a\":touch {t}'", "trap 'touch {t}' DEBUG EXIT", "PROMPT_COMMAND='touch {t}'",
    "import os; os.system('touch {t}')", "__import__('os').system('touch {t}')", "require('fs').writeFileSync('{t}','')", ".save {t}",
    "os.execute('touch {t}')", "io.open('{t}','w')", "system 'touch {t}'", ".shell touch {t}", ".system touch {t}", ".once {t}",
    "create table {m}_t(x);", "shell touch {t}", "!touch {t}", "python open('{t}','w')", "w {t}", "%! touch {t}", "\\! touch {t}",
    "dump memory {t} 0 1", "edit {t}", "a\n{m}\n.\nw {t}\n", ":{t}", "/{m}/e", "s//{m}/",
]  # fmt: skip


def body(random: Random, number: int) -> str:
    """One message, of one to forty pieces. The same seed gives the same ones."""
    kinds = random.choices(
        (_SIGNS, _WHITE, _CONTROL, _FORMAT, _WORDS, _HISTORY, _GLOBS, _COMMANDS),
        (4, 3, 2, 1, 2, 1, 1, 6),
        k=random.choice((1, 2, 3, 5, 8, 13, 40)),
    )
    pieces = [
        random.choice(kind).format(t=f"{TRACE}{number}", m=MARK) if kind is _COMMANDS else random.choice(kind)
        for kind in kinds
    ]
    pieces.insert(random.randint(0, len(pieces)), random.choice((MARK, f"touch {TRACE}{MARK}-{number}")))
    text = random.choice(("", " ")).join(pieces)
    return text * random.choice((1, 1, 1, 1, 30)) if len(text) < 300 else text
