"""The shells and interpreters that messages are shown to, and how a person uses each by keys."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

BREAK = b"\x03"


@dataclass(frozen=True)
class State:
    """What a person has left at the prompt."""

    name: str
    keys: tuple[bytes, ...]
    """Typed one after the other, each when the one before shows."""
    end: tuple[bytes, ...] = (BREAK,)
    """What makes it a fresh prompt again."""


@dataclass(frozen=True)
class Shell:
    """One kind."""

    name: str
    command: tuple[str, ...]
    echo: str
    """A command that prints its argument {n} between `sy` and `nc`, written so that the command itself does not show the word."""
    dump: str = ""
    """A command that writes all that it remembers to the file {file}."""
    half: tuple[str, str] = ("", "")
    """The two halves of a command that writes `half` to the file `half`."""
    states: tuple[State, ...] = ()
    rc: dict[str, str] = field(default_factory=dict)
    """Files in its home."""
    leave: bytes = b"\x04"


FRESH = State("fresh", (), ())
REPORT = State("a left-over cursor report", (b"\x1b[12;40R",))
AFTER_CAT = State("after cat ended", (b"cat\r", b"a line\r", b"\x04"), ())
HERE = State("a here document", (b"cat <<END\r", b"a line\r"))
QUOTES = (
    State("an open quote", (b"echo 'open",)),
    State("an open double quote", (b'echo "open\r', b"more")),
    HERE,
    State("a continuation", (b"echo a \\\r",)),
    State("an open loop", (b"for x in 1 2\r", b"do echo $x\r")),
)
SEARCH = State("a search in the history", (b"\x12echo",), (BREAK, BREAK))
VI = State("vi mode", (b"set -o vi\r", b"echo vi", b"\x1b"), (b"ddi", b"set -o emacs\r"))
POSIX = "{{ set; alias; jobs; }} > {file} 2>&1"

_HALF = ("echo ha", "lf > half")
_ECHO = "echo 'sy''nc{n}'"
_ZSHRC = """PS1='$ '
HISTFILE=~/.history
SAVEHIST=100
setopt inc_append_history
autoload -Uz compinit && compinit -u
zstyle ':completion:*' menu select
"""
_FISHRC = "set -g fish_greeting\nfunction fish_prompt; echo -n '$ '; end\n"
_PYTHON = "/usr/bin/python3" if sys.platform.startswith("linux") else sys.executable
_PYTHON_DUMP = (
    "import readline; "
    "_ = open('{file}', 'w').write(repr(globals()) + repr([readline.get_history_item(i) for i in range(1, 999)]))"
)
_NODE_DUMP = "require('fs').writeFileSync('{file}', Object.keys(globalThis) + require('repl').repl.history)"
_LUA_DUMP = "local f = io.open('{file}', 'w') for k in pairs(_G) do f:write(k, '\\n') end f:close()"

SHELLS = (
    Shell(
        "bash",
        ("bash",),
        _ECHO,
        "{{ set; alias; declare -f; jobs; history; }} > {file}",
        _HALF,
        (FRESH, *QUOTES, SEARCH, VI, AFTER_CAT, REPORT, State("a completion", (b"ls ./c\t\t",))),
        {".bashrc": "PS1='$ '\n"},
    ),
    Shell("dash", ("dash",), _ECHO, POSIX, _HALF, (FRESH, *QUOTES, AFTER_CAT, REPORT)),
    Shell("busybox", ("busybox", "sh"), _ECHO, POSIX, _HALF, (FRESH, *QUOTES, AFTER_CAT, REPORT)),
    Shell(
        "zsh",
        ("zsh",),
        _ECHO,
        "{{ set; alias; functions; jobs; fc -l 1; }} > {file}",
        _HALF,
        (
            FRESH,
            *QUOTES,
            SEARCH,
            State("vi mode", (b"bindkey -v\r", b"echo vi", b"\x1b"), (b"ddi", b"bindkey -e\r")),
            AFTER_CAT,
            REPORT,
            State("a menu selection", (b"ls ./c\t", b"\t", b"\t"), (BREAK, BREAK)),
        ),
        {".zshrc": _ZSHRC},
    ),
    Shell(
        "fish",
        ("fish",),
        _ECHO,
        "begin; set; alias; functions -a; jobs; history; end > {file}",
        _HALF,
        (
            FRESH,
            *QUOTES[:2],
            State("an open loop", (b"for x in 1 2\r", b"echo $x\r")),
            AFTER_CAT,
            REPORT,
            State("a completion", (b"ls ./c\t", b"\t"), (BREAK, BREAK)),
            State(
                "vi mode", (b"fish_vi_key_bindings\r", b"echo vi", b"\x1b"), (b"ddi", b"fish_default_key_bindings\r")
            ),
        ),
        {".config/fish/config.fish": _FISHRC},
    ),
    Shell(
        "ksh",
        ("ksh",),
        _ECHO,
        "{{ set; alias; functions; jobs; fc -l -99; }} > {file}",
        _HALF,
        (FRESH, *QUOTES, VI, AFTER_CAT, REPORT),
    ),
    Shell(
        "tcsh",
        ("tcsh", "-f"),
        _ECHO,
        "( set; alias; jobs; history ) > {file}",
        _HALF,
        (FRESH, HERE, State("a continuation", (b"echo a \\\r",)), AFTER_CAT, REPORT),
    ),
    Shell("csh", ("csh", "-f"), _ECHO, "( set; alias; jobs; history ) > {file}", _HALF, (FRESH, AFTER_CAT)),
    Shell(
        "xonsh",
        ("xonsh", "--no-rc"),
        "print('sy' + 'nc{n}')",
        "open('{file}', 'w').write(repr(globals())) and None",
        ("open('half', 'w')", ".write('half')"),
        (FRESH, State("an open string", (b"x = '''open\r",))),
    ),
    Shell(
        "nu",
        ("nu", "--no-config-file"),
        "print ('sy' + 'nc{n}')",
        "scope variables | to nuon | save -f {file}",
        ("'half' | ", "save half"),
        (FRESH,),
    ),
    Shell(
        "python",
        (_PYTHON, "-q"),
        "print('sy' + 'nc{n}')",
        _PYTHON_DUMP,
        ("_ = open('half', 'w')", ".write('half')"),
        (
            FRESH,
            State("an open string", (b"x = '''open\r",)),
            State("an open block", (b"if True:\r", b"  pass\r")),
            SEARCH,
            REPORT,
        ),
    ),
    Shell(
        "node",
        ("node",),
        "console.log('sy' + 'nc{n}')",
        _NODE_DUMP,
        ("require('fs').writeFileSync(", "'half', 'half')"),
        (FRESH, State("an open bracket", (b"[1,\r", b"2")), REPORT),
    ),
    Shell(
        "lua",
        ("lua",),
        "print('sy' .. 'nc{n}')",
        _LUA_DUMP,
        ("do local f = io.open('half', 'w') ", "f:write('half') f:close() end"),
        (FRESH,),
    ),
    Shell(
        "sqlite3",
        ("sqlite3",),
        "select 'sy' || 'nc{n}';",
        ".once {file}\r.schema",
        (".output half\r", "select 'half';\r.output"),
        (
            FRESH,
            State("an open statement", (b"select 1,\r",), (b"2;\r",)),
            State("an open string", (b"select 'open\r",), (b"';\r",)),
        ),
    ),
    Shell(
        "gdb",
        ("gdb", "-q"),
        r"echo s\171nc{n}\n",
        "",
        ("shell echo ha", "lf > half"),
        (FRESH, State("a definition", (b"define foo\r",), (b"end\r",))),
    ),
    Shell(
        "ed",
        ("ed",),
        "!echo 'sy''nc{n}'",
        "",
        ("!echo ha", "lf > half"),
        (FRESH, State("the input mode", (b"a\r", b"a line\r"), (b".\r",))),
        leave=b"Q\r",
    ),
    Shell(
        "perl",
        ("perl", "-de0"),
        "print 'sy', \"nc{n}\\n\"",
        "",
        ("system 'echo ha", "lf > half'"),
        (FRESH,),
        leave=b"q\r",
    ),
)
