"""How an agent is started: its complete environment, with its own token and nobody else's secrets.

Source: spec/local-api.md sections 5.4 and 11.1; spec/node-protocol.md section 6.1.
"""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import TYPE_CHECKING

from relaybroker.adapters.sessions.host.kin import MARK
from relaybroker.adapters.sessions.host.protocol import Start
from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.adapters.vault import agent_reference
from relaybroker.agents import agent_environment
from relaybroker.domain.command_line import is_protected
from relaybroker.domain.doors import TELLS_TOOLS
from relaybroker.mcp.injection import tools_of, with_tools, with_variables
from relaybroker.mcp.preflight import Preflight

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from relaybroker.adapters.spawn_environments import SpawnEnvironments
    from relaybroker.adapters.vault import Vault
    from relaybroker.domain.effects import StartProgram

_ORIGINS = {
    "claude": "claude-code",
    "codex": "codex",
    "cursor-agent": "cursor",
    "gemini": "gemini-cli",
    "aider": "aider",
    "opencode": "opencode",
    "goose": "goose",
    "droid": "droid",
    "amp": "amp",
    "copilot": "github-copilot",
    "zed": "zed",
}
"""Program -> its name in AGENT_RELAY_ORIGIN_ACTOR."""


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what no child of the broker may inherit. Agents get less: `relaybroker.agents.agent_environment`."""
    return {name: value for name, value in environment.items() if not is_protected(name)}


class VariablesLostError(Exception):
    """The variables that a caller brought along for its agent are not there any more."""


class Launcher:
    """Turns the core's wish for a program into a complete request for the PTY host.

    Args:
        environment: of the broker.
        named: what agents take over of it besides `agent_environment.INHERITED`.
        cwd: of the broker; where agents run that name no directory of their own.
        base_url: of the engine.
        api_url: of the local API, as agents reach it.
        workspace_id: of this node.
        worker_logs: directory of the agents' raw output.
        vault: has the agents' tokens.
        environments: has the variables that callers brought along.
        own_files: directory of agents' own files; a directory per session.
        commands: directory with the `relaybroker` command, for agents whose PATH has none.
        tools_approved: whether agents may use their tools without asking.
        server: another MCP server's command in the place of our endpoint; empty = ours.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        named: tuple[str, ...] = (),
        cwd: Path,
        base_url: str,
        api_url: str,
        workspace_id: str,
        worker_logs: Path,
        vault: Vault,
        environments: SpawnEnvironments,
        own_files: Path,
        commands: Path,
        tools_approved: bool = False,
        server: tuple[str, ...] = (),
    ) -> None:
        self._base = {
            **agent_environment.inherited(environment, named),
            **agent_environment.SET,
            "RELAY_BASE_URL": base_url,
            "RELAY_WORKSPACE_ID": workspace_id,
            "RELAY_DEFAULT_WORKSPACE": workspace_id,
        }
        self._api_url = api_url
        self._cwd = cwd
        self._worker_logs = worker_logs
        self._vault = vault
        self._environments = environments
        self._own_files = own_files
        self._commands = commands
        self._approved = tools_approved
        self._server = server

    def start(self, wish: StartProgram) -> Start:
        """The request for the host. The environment of the wish may change everything but identity and secrets.

        Raises:
            VariablesLostError: what the caller brought along is not there any more.
        """
        cwd, argv = wish.cwd or str(self._cwd), wish.argv
        tools: tuple[str, ...] = ()
        environment = {**self._base, "PWD": cwd}
        if origin := _ORIGINS.get(PurePath(wish.argv[0]).name.lower()) or _ORIGINS.get(wish.profile):
            environment["AGENT_RELAY_ORIGIN_ACTOR"] = f"agent-relay-cli/agent/{origin}"
        environment |= {
            variable: str(self._own_files / wish.session_id / name) for variable, name in harnesses.own_files().items()
        }
        brought = self._brought(wish)
        environment |= scrubbed(wish.env | brought)
        environment |= self._result_variables(brought)
        environment[MARK] = wish.session_id
        if wish.agent_id:
            environment |= {
                "RELAY_AGENT_NAME": wish.name,
                "RELAY_AGENT_TYPE": "agent",
                "RELAY_STRICT_AGENT_NAME": "1",
            }
            if token := self._vault.token(agent_reference(wish.agent_id)):
                environment |= {
                    "RELAY_AGENT_TOKEN": token,
                    "RELAYBROKER_URL": self._api_url,
                    "RELAY_SKIP_BOOTSTRAP": "1",
                    "PATH": os.pathsep.join(filter(None, (environment["PATH"], str(self._commands)))),
                }
                if TELLS_TOOLS in wish.doors:
                    tools = self._server or (str(self._commands / "relaybroker"), "mcp")
                elif (profile := harnesses.profiles().get(wish.profile)) is not None:
                    environment = with_variables(profile, argv, environment, server=self._server)
                    argv = with_tools(profile, argv, url=self._api_url, approved=self._approved, server=self._server)
        return Start(
            session_id=wish.session_id,
            name=wish.name,
            argv=argv,
            env=environment,
            cwd=cwd,
            profile=wish.profile,
            rows=wish.rows,
            cols=wish.cols,
            log_path=str(self._worker_logs / f"{wish.name}.log"),
            idle_threshold_s=wish.idle_threshold_s,
            doors=wish.doors,
            tools=tools,
            resumes=wish.resumes,
        )

    def preflight(self, wish: StartProgram, start: Start) -> Preflight | None:
        """What must answer before this program is started; None where it gets no tools."""
        profile = harnesses.profiles().get(wish.profile)
        token = start.env.get("RELAY_AGENT_TOKEN", "")
        if not start.tools and (profile is None or not tools_of(profile, wish.argv)):
            return None
        if not token or self._server:
            return None
        return Preflight(self._api_url, token)

    def _result_variables(self, brought: dict[str, str]) -> dict[str, str]:
        """What an agent needs to hand in the result that its spawn asked for; nothing, if it asked for none."""
        kept = {name: value for name, value in brought.items() if name.startswith("AGENT_RELAY_RESULT_")}
        return kept | {"AGENT_RELAY_RESULT_URL": f"{self._api_url}/api/agent-result"} if kept else {}

    def _brought(self, wish: StartProgram) -> dict[str, str]:
        values = self._environments.values(wish.env_ref) if wish.env_ref else {}
        if values is None:
            raise VariablesLostError(f"the variables of {wish.name} ({wish.env_ref}) are gone")
        return values
