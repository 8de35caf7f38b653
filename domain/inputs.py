"""Everything that can reach the core, each named after who told us. Adapters make these; `Broker.handle` takes them.

No input carries a secret: adapters put tokens into the vault and pass a fingerprint. Times are epoch seconds, ids are strings.

Source: design/architecture.md section 3.
"""

from __future__ import annotations

from typing import Any

import msgspec

from relaybroker.domain.manifest import Manifest
from relaybroker.domain.questions import Question


class _Input(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Common shape of inputs: immutable, encodable."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator chose for this run; recorded with the start so that replay decides the same."""

    node_id: str
    node_name: str
    workspace_id: str
    base_url: str
    version: str
    broker_name: str
    """The instance name: the broker's own identity in the workspace."""
    token_pinned: bool = False
    in_doubt: str = "ask"
    """`ask`, `at_least_once` or `at_most_once`."""
    default_channels: tuple[str, ...] = ("general",)
    capabilities: tuple[str, ...] = ()
    """Harnesses offered for placement, as `spawn:<cli>`."""
    remote_args: bool = False
    permission_mode: str = "explicit"
    """Who may have programs bypass their permissions: `never`, `explicit`, `local`, `all`."""
    """Whether spawn actions may bring `args` and `cwd`."""
    max_agents: int = 0
    """How many agents this node takes; 0 = as many as come."""
    persist: bool = True
    agent_may: tuple[str, ...] = ()
    """What agents may besides talking: `spawn`, `release`."""
    checks_places: bool = False
    """A message for a local agent that has no place for it is refused when it is sent; false in older logs."""
    reenrols: bool = False
    """A refused link asks for a new token once a probe; false in older logs."""
    local_first: bool = False
    """While the engine cannot be reached, messages between agents here are typed at once and published later; false in older logs."""
    ready_after_s: float = 0.0
    """Pause between the answer to a spawn and the word that its program is ready; 0 = that word comes with the report (older logs)."""


class BrokerStarted(_Input, frozen=True, kw_only=True):
    """The first input of every run. `entropy` (32 hex digits or more) is all the randomness that the run has."""

    boot_id: str
    entropy: str
    settings: Settings
    has_node_token: bool
    """The vault holds a node token for this node, workspace and engine."""
    has_own_token: bool = False
    """The vault holds the token of the broker's own agent identity."""
    own_agent_id: str = ""
    machine_boot: str = ""
    """Which run of the machine this is, by the kernel's word; "" = not known (and in older logs)."""


# --- node link ---------------------------------------------------------------------------------------------------------


class LinkOpened(_Input, frozen=True, kw_only=True):
    """The socket of dial number `dial` is open (101). Nothing is proven yet."""

    dial: int


class LinkDialFailed(_Input, frozen=True, kw_only=True):
    """The dial ended without a socket. `status` is the HTTP status of the upgrade, if there was one."""

    dial: int
    status: int | None
    detail: str


class LinkClosed(_Input, frozen=True, kw_only=True):
    """The socket ended. `code` is the WebSocket close code, if any; `detail` says what was seen (`idle`, `eof`, `superseded`, ...)."""

    dial: int
    code: int | None
    detail: str


class FrameArrived(_Input, frozen=True, kw_only=True):
    """One text frame that is a JSON object. A `token` in reply data is already replaced by its fingerprint."""

    dial: int
    frame: dict[str, Any]


class FrameUnreadable(_Input, frozen=True, kw_only=True):
    """One frame that is no JSON object. `reason` is `bad_json` or `binary_frame`."""

    dial: int
    reason: str
    size: int


# --- engine REST -------------------------------------------------------------------------------------------------------


class EngineAnswered(_Input, frozen=True, kw_only=True):
    """The engine answered an `EngineCall`. `data` is the envelope's data (a token is replaced by its fingerprint)."""

    call_id: str
    status: int
    data: Any = None
    code: str = ""
    message: str = ""


class EngineUnanswered(_Input, frozen=True, kw_only=True):
    """An `EngineCall` ended without an HTTP answer: `detail` says why (`timeout`, `connection refused`, ...)."""

    call_id: str
    detail: str


# --- PTY host ----------------------------------------------------------------------------------------------------------


class HostSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session that the host has: its state is `booting`, `ready`, `blocked`, `stopping` or `exited`."""

    session_id: str
    pid: int
    state: str


class HostAttached(_Input, frozen=True, kw_only=True):
    """The host answered. `sessions` are all it has; reports not yet confirmed follow as inputs of their own."""

    host_id: str
    host_pid: int
    sessions: tuple[HostSession, ...]


class HostLost(_Input, frozen=True, kw_only=True):
    """The connection to the host ended, or it could not be started."""

    detail: str


class _HostReport(_Input, frozen=True, kw_only=True):
    """A fact from the host about one session. `report` is its number within the host; a number seen before changes nothing."""

    host_id: str
    report: int
    session_id: str


class ProgramStarted(_HostReport, frozen=True, kw_only=True):
    """The process exists."""

    pid: int


class ProgramNotStarted(_HostReport, frozen=True, kw_only=True):
    """The process could not be started."""

    reason: str
    """`cli_not_found`, `invalid_cwd` or `spawn_failed`."""
    detail: str


class ProgramWithheld(_Input, frozen=True, kw_only=True):
    """This broker did not ask the host to start a program: what the program needs is not there."""

    session_id: str
    reason: str
    detail: str


class ProgramReady(_HostReport, frozen=True, kw_only=True):
    """The readiness gate opened. `evidence`: `prompt`, `hook`, `output`, `reading` or `unverified`."""

    evidence: str


class ProgramBlocked(_HostReport, frozen=True, kw_only=True):
    """A dialog or login is on the screen, or its door tells what is asked."""

    pattern: str
    question: Question | None = None


class ProgramUnblocked(_HostReport, frozen=True, kw_only=True):
    """The dialog is gone."""


class AnswerGiven(_HostReport, frozen=True, kw_only=True):
    """A person's answer was given to the program through its door. `question`: its kind; `option`: the label."""

    request_id: str
    question_id: str
    question: str
    option_id: str
    option: str
    by: str


class ProgramOccupied(_HostReport, frozen=True, kw_only=True):
    """The terminal is not free. `reason`: `agent_busy`, `agent_suspended`, `composer_unclear` or `human_driving`."""

    reason: str
    detail: str
    """How that was seen."""
    patience_s: float
    """After waiting so long a message is typed all the same; 0 = only when the terminal is free."""


class ProgramFreed(_HostReport, frozen=True, kw_only=True):
    """The program is free again."""


class ProgramIdle(_HostReport, frozen=True, kw_only=True):
    """Silence for this long, nothing pending."""

    idle_s: float


class ProgramExited(_HostReport, frozen=True, kw_only=True):
    """The process is reaped, its output drained."""

    code: int | None
    signal: int | None
    last_output: str
    uptime_s: float
    requested: bool
    cause: str = ""
    """Why the host ended it: `terminal_closed`, `no_way_in`; "" = it did not."""


class DoorChosen(_HostReport, frozen=True, kw_only=True):
    """Deliveries enter through this door from here on; `""` = the terminal. `passed_over`: those before it -> why."""

    door: str
    place: str = ""
    passed_over: dict[str, str] = msgspec.field(default_factory=dict)


class TextTyped(_HostReport, frozen=True, kw_only=True):
    """Body and Enter of a delivery are written, or its program took it through a door of its own: `evidence` says what shows that."""

    delivery_id: str
    attempt: int
    bytes_written: int
    evidence: str
    wait_ms: float
    repeated: bool = False
    door: str = ""
    pointer: str = ""
    """Where the evidence is to be seen."""


class TextNotTyped(_HostReport, frozen=True, kw_only=True):
    """A delivery was not completed. `typed` is `no`, `partly`, or `unknown`: it was handed over, and nothing shows that it was taken."""

    delivery_id: str
    attempt: int
    reason: str
    typed: str


class DeliveryLookedUp(_Input, frozen=True, kw_only=True):
    """What a program's own records say of a delivery in doubt; whoever asked may have gone on meanwhile.

    `outcome`: `accepted`, `absent` (proved), or `unknowable`, with why in `detail`.
    """

    delivery_id: str
    attempt: int
    outcome: str
    evidence: str = ""
    pointer: str = ""
    detail: str = ""


class TextVerified(_HostReport, frozen=True, kw_only=True):
    """End of the verification window: `echo` or `timeout_fallback`."""

    delivery_id: str
    verification: str


# --- local API ---------------------------------------------------------------------------------------------------------


class SpawnSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run as an agent. `cli` may hold inline arguments (split by shell rules)."""

    name: str
    cli: str
    args: tuple[str, ...] = ()
    cwd: str = ""
    """Absolute; "" means the broker's own."""
    task: str = ""
    preface: str = ""
    """What is typed in front of the task: what the agent that it continues left."""
    continue_from: str = ""
    """The name of that agent."""
    channels: tuple[str, ...] = ()
    model: str = ""
    team: str = ""
    shadow_of: str = ""
    """Kept and shown; it changes nothing."""
    shadow_mode: str = ""
    session_ref: str = ""
    env: dict[str, str] = {}
    """Variables whose values may stand in the log."""
    env_names: tuple[str, ...] = ()
    """Variables that the caller brought along. Their values are never in the log: the broker keeps them as `env_ref`."""
    env_ref: str = ""
    harness: str = ""
    """Name of the harness profile; "" = the one of the command."""
    doors: tuple[str, ...] | None = None
    """By which deliveries enter its program, the first that opens, the terminal behind them; None = as its harness says."""
    surface: tuple[str, ...] | None = None
    """What the agent is told of its own messages: `reaction`, `receipt`; None = as its harness says."""
    idle_threshold_s: float = 30.0
    restart: RestartPolicy | None = None
    """When its program is started again after a failure; None = never."""
    permission_mode: str = ""
    """`ask`, `bypass`; "" = the caller does not say."""
    exit_after_task: bool = False
    """It is released once its program was typed the task and is idle after that."""
    skip_relay_prompt: bool = False
    rows: int = 24
    cols: int = 80
    result_schema: Any = None
    """The JSON Schema of the structured result that the agent is asked for."""
    result_digest: str = ""
    """By what the token is known with which it hands that in; "" = it is asked for none."""
    supplied_token: str = ""
    """Fingerprint of the agent's token that a local caller brought along; the vault has it as `supplied:<fingerprint>`."""

    @property
    def opening(self) -> str:
        """What is typed first: the task, and what stands in front of it."""
        return f"{self.preface}{self.task}"


class SpawnRequested(_Input, frozen=True, kw_only=True):
    """A person or program asks for an agent through the local API, or a sidecar does, perhaps for an invocation."""

    request_id: str
    spec: SpawnSpec
    source: str = "http_api"
    """`http_api` or `sidecar`."""
    invocation_id: str = ""
    key: str = ""
    """The caller's own; "" = none."""


class ReleaseRequested(_Input, frozen=True, kw_only=True):
    """A person or program wants an agent ended."""

    request_id: str
    name: str
    reason: str = ""


class SendRequested(_Input, frozen=True, kw_only=True):
    """A message from a person or a local agent. `to` is `#channel`, an agent name, `@name` or a conversation id."""

    request_id: str
    to: str
    text: str
    sender: str = ""
    thread_id: str = ""
    mode: str = "wait"
    data: dict[str, Any] | None = None
    attachments: tuple[str, ...] = ()
    """File ids at the engine."""
    key: str = ""
    """The caller's own key for this message; the same one again sends nothing."""
    priority: int | msgspec.UnsetType = msgspec.UNSET
    """0 (most urgent) to 4; unset = the default of the target. Unset it leaves no trace, so that keys from before priorities stay valid."""
    agent_id: str | msgspec.UnsetType = msgspec.UNSET
    """The agent that asks with its own token: it sends as itself, whatever `sender` says. Unset = the operator asks."""
    strict: bool | msgspec.UnsetType = msgspec.UNSET
    """True: a sender or a thread that does not exist is refused; else the broker sends, or the message goes without its thread."""


class ActRequested(_Input, frozen=True, kw_only=True):
    """An agent, known by its own token, wants something done at the engine in its name: one of `relaybroker.domain.rules.acts.ACTS`."""

    request_id: str
    agent_id: str
    """"" = the operator, as the broker's own identity."""
    act: str
    arguments: dict[str, Any]
    key: str = ""
    """The caller's own key: the same one again does nothing more."""


class ResultRequested(_Input, frozen=True, kw_only=True):
    """An agent, known by its own token, hands in a result of its work."""

    request_id: str
    agent_id: str
    data: Any
    final: bool = True
    metadata: Any = None


class SummaryGiven(_Input, frozen=True, kw_only=True):
    """An agent, known by its own token, leaves a summary for whoever goes on with its work."""

    request_id: str
    agent_id: str
    summary: str


class FetchRequested(_Input, frozen=True, kw_only=True):
    """An agent, known by its own token, wants what waits for it, at most so many."""

    request_id: str
    agent_id: str
    limit: int


class FetchEnded(_Input, frozen=True, kw_only=True):
    """The answer to a fetch has gone out whole (`answered`), or broke off."""

    agent_id: str
    fetch_id: str
    answered: bool


class DeliveryModeRequested(_Input, frozen=True, kw_only=True):
    """A person wants an agent's messages held (`manual_flush`) or typed as they come (`auto_inject`)."""

    request_id: str
    name: str
    mode: str
    reason: str = ""
    revision: int | None = None
    """Only if the mode still has this revision."""
    expected: str = ""
    """Only if this is the mode now; "" = whatever it is."""


class FlushRequested(_Input, frozen=True, kw_only=True):
    """A person wants what is held for an agent typed now."""

    request_id: str
    name: str


class TerminalTyped(_Input, frozen=True, kw_only=True):
    """People wrote to an agent's terminal: in so many pieces so many bytes, with this digest (BLAKE2b). The keys stay outside."""

    session_id: str
    frames: int
    size: int
    digest: str


class TerminalSized(_Input, frozen=True, kw_only=True):
    """A person gave an agent's terminal a size. `owner`: who attached, by an id of its own choice; "" = a command."""

    session_id: str
    rows: int
    cols: int
    owner: str


class QuestionAnswered(_Input, frozen=True, kw_only=True):
    """A person's answer to what a program asked was chosen in its terminal, and the question is gone."""

    request_id: str
    session_id: str
    name: str
    question: str
    option: str
    by: str = ""
    """Who answered; "" in older logs."""


class ModelSwitched(_Input, frozen=True, kw_only=True):
    """An agent's program was told to use another model."""

    request_id: str
    name: str
    model: str


class EnrolRequested(_Input, frozen=True, kw_only=True):
    """A person wants the node enrolled and connected now, whatever was tried before."""

    request_id: str


class RedeliverRequested(_Input, frozen=True, kw_only=True):
    """A person wants dead letters typed after all: those named, or with `every` all (of one agent)."""

    request_id: str
    letter_ids: tuple[str, ...] = ()
    every: bool = False
    agent: str = ""
    force: bool = False
    """Also those that may have been typed."""


class PurgeRequested(_Input, frozen=True, kw_only=True):
    """A person wants dead letters off the list: those named, or with `every` all (of one agent)."""

    request_id: str
    letter_ids: tuple[str, ...] = ()
    every: bool = False
    agent: str = ""


# --- sidecar -------------------------------------------------------------------------------------------------------------


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When the program of an agent or of a supervised sidecar is started again after it failed.

    `max_restarts`: in all; `max_consecutive_failures`: in a row; `cooldown_s`: the first pause, doubled with each failure in a row.
    """

    enabled: bool = True
    max_restarts: int = 5
    cooldown_s: float = 2.0
    max_consecutive_failures: int = 3


class Supervision(msgspec.Struct, frozen=True, kw_only=True):
    """The program behind a sidecar. Its environment may hold secrets: the adapter has it."""

    argv: tuple[str, ...]
    cwd: str
    policy: RestartPolicy


class _SidecarInput(_Input, frozen=True, kw_only=True):
    """Something on one sidecar connection. `connection` is unique over all runs."""

    connection: str


class SidecarConnected(_SidecarInput, frozen=True, kw_only=True):
    """A local program offers itself as a sidecar."""


class SidecarClosed(_SidecarInput, frozen=True, kw_only=True):
    """Its socket ended."""

    detail: str


class ManifestOffered(_SidecarInput, frozen=True, kw_only=True):
    """`register_node`: what the sidecar wants this node to offer."""

    request_id: str
    manifest: Manifest
    supervision: Supervision | None = None


class HandlersOffered(_SidecarInput, frozen=True, kw_only=True):
    """`register_handlers`: the names that it serves from now on, trimmed and not blank."""

    request_id: str
    names: tuple[str, ...]


class HandlerFinished(_SidecarInput, frozen=True, kw_only=True):
    """`handler_result`: `error` "" means success with `output`."""

    request_id: str
    invocation_id: str
    output: Any = None
    error: str = ""


class NodeLeft(_SidecarInput, frozen=True, kw_only=True):
    """`deregister_node`: the sidecar takes its offer back and leaves."""

    request_id: str


class SidecarProcessEnded(_Input, frozen=True, kw_only=True):
    """The sidecar program that this broker started has ended, or could not be started."""

    detail: str


class ClockLeapt(_Input, frozen=True, kw_only=True):
    """The wall clock is suddenly later: it was set, or the machine slept. Nobody has waited for that long."""

    by_s: float


class ShutdownRequested(_Input, frozen=True, kw_only=True):
    """Stop the broker. With `agents_too` the agents are released and the host ends; else they live on for the next broker."""

    reason: str
    agents_too: bool = True


Input = (
    BrokerStarted
    | LinkOpened
    | LinkDialFailed
    | LinkClosed
    | FrameArrived
    | FrameUnreadable
    | EngineAnswered
    | EngineUnanswered
    | HostAttached
    | HostLost
    | ProgramStarted
    | ProgramNotStarted
    | ProgramWithheld
    | ProgramReady
    | ProgramBlocked
    | ProgramUnblocked
    | AnswerGiven
    | ProgramOccupied
    | ProgramFreed
    | ProgramIdle
    | ProgramExited
    | TextTyped
    | TextNotTyped
    | TextVerified
    | DoorChosen
    | DeliveryLookedUp
    | SpawnRequested
    | ReleaseRequested
    | SendRequested
    | ActRequested
    | ResultRequested
    | SummaryGiven
    | FetchRequested
    | FetchEnded
    | DeliveryModeRequested
    | FlushRequested
    | RedeliverRequested
    | PurgeRequested
    | EnrolRequested
    | ModelSwitched
    | QuestionAnswered
    | TerminalTyped
    | TerminalSized
    | SidecarConnected
    | SidecarClosed
    | ManifestOffered
    | HandlersOffered
    | HandlerFinished
    | NodeLeft
    | SidecarProcessEnded
    | ClockLeapt
    | ShutdownRequested
)
