"""The agents of a project, as its configuration file has them: `[agents.NAME]`."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, field_validator

if TYPE_CHECKING:
    from collections.abc import Mapping


class Restart(BaseModel):
    """When the program of an agent is started again after it failed; the broker knows what is not said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_restarts: int | None = Field(default=None, ge=0, le=1000)
    cooldown_ms: int | None = Field(default=None, ge=0, le=3_600_000)
    max_consecutive_failures: int | None = Field(default=None, ge=0, le=1000)


class Agent(BaseModel):
    """One agent that shall run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cli: str = Field(min_length=1, description="Command line.")
    cwd: str = Field(default="", description="Working directory; relative to the file.")
    task: str = Field(default="", description="Typed once the program is ready.")
    channels: tuple[str, ...] = Field(default=(), description="Channels to join.")
    harness: str = Field(default="", description="Which program this is, if the command does not show it.")
    surface: tuple[Literal["reaction", "receipt"], ...] | None = Field(
        default=None,
        description="What to tell it about its own messages: reaction, receipt. Default: as its harness says.",
    )
    doors: tuple[str, ...] | None = Field(
        default=None,
        description="How messages enter its program, in order of preference; the terminal is behind them. Default: as its harness says.",
    )
    model: str = Field(default="", description="Model to use, if the harness has an option for it.")
    team: str = Field(default="", description="Team that the agent belongs to.")
    env: dict[str, str] = Field(default_factory=dict, description="Environment variables.")
    env_from: tuple[str, ...] = Field(
        default=(),
        description="Variables to take from the shell in which `apply` or `up` runs; for secrets.",
    )
    restart: bool | Restart = Field(
        default=False,
        description="Start the program again when it fails; true, or limits: max_restarts, cooldown_ms, max_consecutive_failures.",
    )

    @field_validator("cli")
    @classmethod
    def _is_a_command(cls, text: str) -> str:
        if not shlex.split(text):
            raise ValueError("names no program")
        return text

    def request(self, name: str, project: Path, environ: Mapping[str, str]) -> dict[str, Any]:
        """The body of `POST /api/spawn` that makes it so.

        Raises:
            LookupError: a variable of `env_from` is not set.
        """
        missing = [variable for variable in self.env_from if variable not in environ]
        if missing:
            raise LookupError(f"agents.{name}.env_from: {missing[0]} is not set in this environment")
        taken = {variable: environ[variable] for variable in self.env_from}
        given = {
            "cwd": str(project / self.cwd) if self.cwd else str(project),
            "task": self.task,
            "channels": list(self.channels),
            "harness": self.harness,
            "surface": self.surface,
            "doors": self.doors,
            "model": self.model,
            "team": self.team,
            "env": self.env | taken,
            "restart_policy": self._restart_policy(),
        }
        said = {
            key: value for key, value in given.items() if value or (key in ("surface", "doors") and value is not None)
        }
        return {"name": name, "cli": self.cli} | said

    def _restart_policy(self) -> dict[str, Any] | None:
        limits = self.restart.model_dump(exclude_none=True) if isinstance(self.restart, Restart) else {}
        return {"enabled": True} | limits if self.restart else None

    def fingerprint(self, project: Path) -> str:
        """The same as long as the agent is to be run the same way; values of `env_from` are secrets and do not count."""
        later = {"surface": self.surface is None, "doors": self.doors is None, "restart": self.restart is False}
        unsaid = {
            field for field, is_unsaid in later.items() if is_unsaid
        }  # agents that were there before stay the same
        said = [self.model_dump(mode="json", exclude=unsaid), str(project)]
        return hashlib.sha256(msgspec.json.encode(said, order="sorted")).hexdigest()[:16]
