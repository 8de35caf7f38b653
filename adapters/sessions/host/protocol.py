"""The wire between the broker and its PTY host: a closed set of messages in length-prefixed MessagePack.

Two directions, two tagged unions. Requests go broker -> host, everything else host -> broker. A `Report` is a fact
that the
host keeps until the broker has made it durable and confirmed it; `Output` is ephemeral; an `Answer` belongs to one
request.

Source: design/architecture.md section 5; spec/node-protocol.md section 6; ADR-0005.
"""

from __future__ import annotations

import msgspec

from relaybroker.domain.questions import Question

PROTOCOL_VERSION = 2
OLDEST_VERSION = max(1, PROTOCOL_VERSION - 1)
"""The version before is spoken as well, by hosts and by brokers: agents live on over an upgrade, and over the way back.

A broker says hello in its own version, and in the host's if that is the one before; a host answers in the broker's. What a version adds
is not sent over a connection of the one before.
"""
DOORS_SINCE = 2
"""The version that knows doors: `LookUp`, `AnswerQuestion`, `DoorChosen` and `Answered`."""
MIN_ROWS = 4
MIN_COLS = 20
"""A smaller terminal shows nothing that a program or a rule could work with; nobody gets one."""
MAX_DIMENSION = 1000
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""A longer message is a protocol violation; the connection is closed."""


class _Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True, tag_field="t"):
    """Common shape of every message: an immutable record with its type name in `t`."""


# --- broker -> host ---------------------------------------------------------------------------------------------------


class Hello(_Message, frozen=True):
    """First message on a connection. A newer connection replaces the older one."""

    version: int
    """That is spoken from here on, if the host speaks it."""
    broker_pid: int
    lease_s: float | None = None
    """After the broker is gone for this long the host ends its agents and itself; None = it stays (`--persist`)."""
    harnesses: dict[str, str] = {}
    """The operator's profiles, file -> TOML, in the place of those of the former broker. Sessions that run keep theirs."""


class Start(_Message, frozen=True):
    """Start a program in a PTY of its own, or on pipes (`doors`). A session id that exists already is not started again (see Welcome)."""

    session_id: str
    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    """The complete environment; nothing is inherited from the host."""
    cwd: str
    profile: str
    """Name of the harness profile (`adapters/sessions/terminal/harnesses/`), chosen by the broker from the command."""
    rows: int = 24
    cols: int = 80
    log_path: str | None = None
    idle_threshold_s: float = 30.0
    """Silence after which one `idle` report is made; 0 = never."""
    doors: tuple[str, ...] = ()
    """By which deliveries are to enter it, in order of preference; the terminal is behind them. A host of version 1 takes the terminal.

    One of `doors.WITHOUT_TERMINAL` stands alone: the program gets pipes and no terminal, and the door is its only way in.
    """
    tools: tuple[str, ...] = ()
    """The command of the MCP server that gives the agent its tools, where the door is to tell the program of it."""
    resumes: str = ""
    """`place` of the door of the agent's program before, whose conversation goes on if the program can; "" = none."""


class Inject(_Message, frozen=True):
    """Type `text` and Enter into a session, once per `delivery_id`; queued behind earlier ones (at most 256)."""

    session_id: str
    delivery_id: str
    attempt: int
    text: str
    """Sanitised text without the final Enter; LF separates lines."""
    marker: str = ""
    """A short token inside `text` that proves the echo when it is seen on the screen."""
    steer: bool = False
    """Interrupt the program (ESC ESC where the profile says so) before typing."""
    expires_at: float = 0.0
    """Epoch seconds after which it is handed back as `expired` instead of typed; 0 = never."""
    task: bool = False
    """The first task of an agent, from whoever started it: typed as it is, also into a shell."""
    while_busy: bool = False
    """Type it also while the program works, where the program can be typed at then (`Occupied.patience_s` > 0)."""


class Input(_Message, frozen=True):
    """Raw bytes from a person, verbatim; never between the text and the Enter of an injection."""

    request_id: str
    session_id: str
    data: bytes


class Resize(_Message, frozen=True):
    """Change the size of the terminal, 1 to 1000 each."""

    request_id: str
    session_id: str
    rows: int
    cols: int


class Snapshot(_Message, frozen=True):
    """Ask for the screen as it is now."""

    request_id: str
    session_id: str
    format: str = "plain"
    """`plain` or `ansi` (local-api.md route 9)."""


class Stop(_Message, frozen=True):
    """End the session: queued injections are handed back, SIGTERM to all of it, SIGKILL after `grace_s`."""

    session_id: str
    grace_s: float
    reason: str


class LookUp(_Message, frozen=True):
    """Ask what a program's own records say of a delivery, also of a session that this host never had. Since version 2.

    `place` is what `DoorChosen` said. The answer's `data`: `outcome` (`accepted`, `absent`, `unknowable`), `evidence`, `pointer`, `detail`.
    """

    request_id: str
    session_id: str
    delivery_id: str
    door: str
    place: str


class AnswerQuestion(_Message, frozen=True):
    """A person's answer to what `Blocked` said that the program asks. Since version 2. What was given is reported as `Answered`."""

    request_id: str
    session_id: str
    question_id: str
    option_id: str
    by: str
    """Who answers, for the record."""


class Confirm(_Message, frozen=True):
    """Every report with a number <= `number` is durable at the broker; the host may forget them."""

    number: int


class Forget(_Message, frozen=True):
    """An exited session is settled; the host drops its screen, ring and record."""

    session_id: str


class Subscribe(_Message, frozen=True):
    """Turn the ephemeral `Output` stream on or off for this connection (off after Hello)."""

    on: bool


class Shutdown(_Message, frozen=True):
    """End every session (TERM, then KILL after `grace_s`) and the host itself."""

    grace_s: float


Asks = Input | Resize | Snapshot | LookUp | AnswerQuestion
"""What is answered with an `Answer`."""
Request = Hello | Start | Inject | Asks | Stop | Confirm | Forget | Subscribe | Shutdown


# --- host -> broker ---------------------------------------------------------------------------------------------------


class SessionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the host knows of one session at the moment a broker attaches."""

    session_id: str
    name: str
    pid: int
    state: str
    """`booting`, `ready`, `blocked`, `stopping` or `exited`."""
    started_at: float
    """Epoch seconds."""
    queued: tuple[str, ...] = ()
    """Delivery ids accepted and not yet typed, in order."""


class Welcome(_Message, frozen=True):
    """Answer to Hello. Every unconfirmed report follows, in order, before anything new."""

    version: int
    host_id: str
    """Opaque, new for each host process: another id means that the sessions of the former host are gone."""
    host_pid: int
    sessions: tuple[SessionInfo, ...]
    next_report: int


class Started(_Message, frozen=True):
    """The program runs; nothing is typed yet."""

    pid: int


class StartFailed(_Message, frozen=True):
    """The program was not started; nothing of it exists."""

    reason: str
    """`cli_not_found`, `invalid_cwd` or `spawn_failed`."""
    detail: str


class DoorChosen(_Message, frozen=True):
    """Deliveries enter through this door from here on; "" = the terminal. Since version 2.

    Reported of a session that asked for doors: before `Ready`, and when its door fails.
    """

    door: str
    place: str = ""
    """Where the program writes down what it was handed; opaque to the broker, which keeps it for `LookUp`."""
    passed_over: dict[str, str] = {}
    """Doors before it, in order -> why each was not taken."""


class Ready(_Message, frozen=True):
    """The readiness gate opened, once per session.

    `evidence`: `prompt` (an empty composer has the cursor), `hook` (`->pty:ready`), `reading` (it waits for its keyboard),
    `output` (it fell silent) or `unverified` (not proven).
    """

    evidence: str


class Blocked(_Message, frozen=True):
    """A dialog or login is on the screen, or a draft stands in the composer; nothing is typed until `Unblocked`.

    `pattern` names the dialog (`adapters/sessions/terminal/harnesses/*.toml`), or is `hidden input` (a password question) or
    `unsubmitted draft` (a delivery failed after its text; the same delivery, asked for again, goes on with what is missing).
    """

    pattern: str
    question: Question | None = None
    """What a door of the program tells of it, in the place of what its screen shows."""


class Unblocked(_Message, frozen=True):
    """What blocked is gone."""


class Answered(_Message, frozen=True):
    """A person's answer was given to the program. Since version 2."""

    request_id: str
    question_id: str
    question: str
    """Its kind."""
    option_id: str
    option: str
    """Its label."""
    by: str


class Occupied(_Message, frozen=True):
    """Something was to be typed, and the terminal is not free. What is handed back meanwhile bears the same reason.

    `reason`: `agent_busy` (the program works, or another one has its terminal), `agent_suspended` (it is stopped), `composer_unclear`
    (somebody's text stands in its composer) or `human_driving` (a person types). `detail`: how that was seen. `patience_s`: the
    program queues what it is typed while it works; after so long a message should be. 0 = never.
    """

    reason: str
    detail: str
    patience_s: float


class Freed(_Message, frozen=True):
    """The terminal is free again."""


class Injected(_Message, frozen=True):
    """One delivery was typed and its Enter had an effect, or it was shown. This, and nothing else, proves that it arrived."""

    delivery_id: str
    attempt: int
    bytes_written: int
    evidence: str
    """What followed Enter: `composer`, `transcript`, `turn`, `prompt`, `output`, `read` (`proof.py`); `shown`: it was put on the terminal
    of a program that would run what it is typed, and nothing was typed. Through a door: what the program itself shows."""
    wait_ms: float
    """Between text and Enter; through a door, between hand-over and evidence."""
    repeated: bool = False
    """It had been typed before this request came (a broker that was killed asks again): nothing was typed now."""
    door: str = ""
    """Through which it entered; "" = the terminal."""
    pointer: str = ""
    """Where the evidence is to be seen; at most 512 characters."""


class InjectFailed(_Message, frozen=True):
    """A delivery was not completed.

    `typed`: `no` (nothing reached the program), `partly` (text without Enter), or `unknown`: it was handed over through a door, and nothing
    shows that it was taken; look it up.
    """

    delivery_id: str
    attempt: int
    reason: str
    """`not_running`, `expired`, `queue_full`, `pty_write_failed`, `too_large`, `blocked_by_dialog` (it appeared between text and
    Enter), `blocked_by_question` (the program asks something as data), `composer_unclear` (a person touched the unsubmitted text, or it
    was shown and is gone without proof), a reason of `Occupied` (the terminal is not free), `agent_released`, `worker_exited`, or
    `no_evidence` (the program did not show that it took it)."""
    typed: str


class Verified(_Message, frozen=True):
    """End of the verification window: `echo` or `timeout_fallback`."""

    delivery_id: str
    verification: str


class Idle(_Message, frozen=True):
    """Silence over the threshold with nothing pending; once per screen content."""

    idle_s: float


class Exited(_Message, frozen=True):
    """The process is reaped, its output drained; every delivery still queued was handed back by `InjectFailed`."""

    code: int | None
    signal: int | None
    last_output: str
    """At most 2000 characters of clean text."""
    uptime_s: float
    requested: bool
    """True when a Stop or Shutdown asked for it."""
    cause: str = ""
    """`terminal_closed`: the host ended it because it closed its terminal before it was ready. `no_way_in`: it has no terminal, and
    its door did not open or closed; the last output says why."""


TERMINAL_CLOSED = "terminal_closed"
NO_WAY_IN = "no_way_in"

Fact = (
    Started
    | StartFailed
    | DoorChosen
    | Ready
    | Blocked
    | Unblocked
    | Answered
    | Occupied
    | Freed
    | Injected
    | InjectFailed
    | Verified
    | Idle
    | Exited
)


class Report(_Message, frozen=True):
    """A fact about one session, numbered from 1 without gaps within one host, kept until confirmed."""

    number: int
    session_id: str
    at: float
    """Epoch seconds at the host."""
    fact: Fact


class Output(_Message, frozen=True):
    """Raw terminal output. `offset` counts bytes since the session's start; a jump means that the reader was slow."""

    session_id: str
    offset: int
    data: bytes


class Answer(_Message, frozen=True):
    """Outcome of Input, Resize, Snapshot, LookUp or AnswerQuestion.

    `error` is "" or `agent_not_found`, `worker_disappeared`, `worker_timeout`, `queue_full`, `pty_write_failed`,
    `invalid_dimensions`, `invalid_format`, `question_changed` (nothing was answered) or `answer_not_taken` (nobody knows).
    `data` of Input: `bytes_written`; of Resize: `rows`, `cols`; of Snapshot: `format`, `rows`, `cols`, `cursor` (1-based row, column),
    `offset` (bytes of output that it shows), `modes` (private ones that are on)
    and `screen` as in local-api.md route 9.
    """

    request_id: str
    error: str = ""
    data: dict[str, str | int | tuple[int, ...]] = {}


class Violation(_Message, frozen=True):
    """The peer broke the protocol; the connection is closed after this message."""

    detail: str


Response = Welcome | Report | Output | Answer | Violation
