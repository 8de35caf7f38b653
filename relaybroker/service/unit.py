"""The service files: one broker of one project each.

* `KillMode=process`: systemd ends the broker, and the broker its agents; a crash of the broker ends nobody. (The default, `control-group`,
  would kill the agents with it.) The PTY host moves into a scope of its own besides, where a manager gives one to this user.
* `Type=notify`: a start on a long log is waited for as long as it goes on.
* No sandbox: whatever binds the broker would bind the agents that it starts.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


class Wanted(NamedTuple):
    """Which broker the service is to run."""

    name: str
    project: Path
    config: Path | None
    state_dir: Path | None


class Service(NamedTuple):
    """A service file, where it belongs, and the commands around it."""

    name: str
    path: Path
    text: str
    secrets: Path
    """A file of `NAME=VALUE` lines for the environment; need not be there."""
    install: list[list[str]]
    uninstall: list[list[str]]
    status: list[str]
    restart: list[list[str]]
    """Ends the broker and not its agents, and starts it again."""


def program() -> list[str]:
    """How this very installation is started."""
    script = Path(sys.executable).with_name("relaybroker")
    if script.exists():
        return [str(script)]
    installed = shutil.which("relaybroker")
    return [installed] if installed else [sys.executable, "-P", "-m", "relaybroker"]


def command_of(wanted: Wanted) -> list[str]:
    """The command line of the broker."""
    words = [*program(), "up", "--name", wanted.name]
    if wanted.config is not None:
        words += ["--config", str(wanted.config)]
    if wanted.state_dir is not None:
        words += ["--state-dir", str(wanted.state_dir)]
    return words


def systemd(wanted: Wanted, environ: Mapping[str, str], *, system: bool, account: str = "") -> Service:
    """A unit of this user's manager, or of the machine's for `account`."""
    name = f"relaybroker-{_UNSAFE.sub('-', wanted.name)}.service"
    home = Path(environ.get("HOME", "/"))
    own = Path(environ.get("XDG_CONFIG_HOME", "").strip() or home / ".config")
    folder = Path("/etc/systemd/system") if system else own / "systemd" / "user"
    secrets = (Path("/etc/relaybroker") if system else own / "relaybroker") / f"{name.removesuffix('.service')}.env"
    control = ["systemctl"] if system else ["systemctl", "--user"]
    lines = [
        "[Unit]",
        f"Description=relaybroker {wanted.name} ({wanted.project})".replace("%", "%%"),
        "After=network-online.target",
        "Wants=network-online.target",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={' '.join(map(_quoted, command_of(wanted)))}",
        f"WorkingDirectory={str(wanted.project).replace('%', '%%')}",
        f"EnvironmentFile=-{str(secrets).replace('%', '%%')}",
        *([f"User={account}"] if system and account else []),
        "UMask=0077",
        "# The broker ends its agents itself when it is stopped; when it crashes they live on, and the next one takes them over.",
        "KillMode=process",
        "TimeoutStopSec=15",
        "Restart=on-failure",
        "RestartSec=2",
        "# An agent that takes too much memory is the kernel's business, and no reason to stop the others.",
        "OOMPolicy=continue",
        "LimitNOFILE=65536",
        "",
        "[Install]",
        f"WantedBy={'multi-user.target' if system else 'default.target'}",
        "",
    ]
    linger = [] if system else [["loginctl", "enable-linger"]]
    return Service(
        name=name,
        path=folder / name,
        text="\n".join(lines),
        secrets=secrets,
        install=[[*control, "daemon-reload"], [*control, "enable", "--now", name], *linger],
        uninstall=[[*control, "disable", "--now", name], [*control, "daemon-reload"]],
        status=[*control, "status", "--no-pager", name],
        restart=[[*control, "kill", "--kill-whom=main", "--signal=HUP", name], [*control, "start", name]],
    )


def launchd(wanted: Wanted, environ: Mapping[str, str]) -> Service:
    """An agent of launchd, for macOS. Not tested on one."""
    label = f"relaybroker.{_UNSAFE.sub('-', wanted.name)}"
    home = Path(environ.get("HOME", "/"))
    path = home / "Library" / "LaunchAgents" / f"{label}.plist"
    words = "".join(f"\n    <string>{escape(word)}</string>" for word in command_of(wanted))
    text = f"""\
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key><string>{escape(label)}</string>
  <key>ProgramArguments</key>
  <array>{words}
  </array>
  <key>WorkingDirectory</key><string>{escape(str(wanted.project))}</string>
  <key>RunAtLoad</key><true/>
  <key>KeepAlive</key><dict><key>SuccessfulExit</key><false/></dict>
  <!-- When the broker crashes, launchd leaves the PTY host and its agents alive. -->
  <key>AbandonProcessGroup</key><true/>
  <key>ExitTimeOut</key><integer>15</integer>
</dict>
</plist>
"""
    return Service(
        name=label,
        path=path,
        text=text,
        secrets=path.with_suffix(".env"),
        install=[["launchctl", "load", "-w", str(path)]],
        uninstall=[["launchctl", "unload", "-w", str(path)]],
        status=["launchctl", "list", label],
        restart=[["launchctl", "kill", "SIGHUP", label], ["launchctl", "start", label]],
    )


def _quoted(word: str) -> str:
    """A word of ExecStart that means itself."""
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{plain}"' if re.search(r"[\s;'\"\\]", word) or not word else plain
