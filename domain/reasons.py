"""The closed list of reasons: why a message was not typed, why something waits, was refused or failed.

Every event that drops, dead-letters, holds, refuses or fails carries one of these, and nothing else. `SENTENCES` says each one to a person,
with the next step where there is one; a test checks that none is missing.

Source: spec/failure-scenarios.md section 2. Engine codes are passed on beside a reason, never instead of one.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Every reason there is."""

    # settled without typing
    DUPLICATE = "duplicate"
    STALE = "stale"
    UNKNOWN_TYPE = "unknown_type"
    RECEIPT_ONLY = "receipt_only"
    SELF_ECHO = "self_echo"
    POISON = "poison"
    READ_ELSEWHERE = "read_elsewhere"
    LOST = "lost"
    RETIRED = "retired"
    UNKNOWN = "unknown"
    # refused, cursor unmoved
    IN_PROGRESS = "in_progress"
    SEQ_CONFLICT = "seq_conflict"
    DELIVERY_ID_REUSED = "delivery_id_reused"
    HOLD_FULL = "hold_full"
    QUEUE_FULL = "queue_full"
    NOT_RUNNING = "not_running"
    UNDECIDED = "undecided"
    # held
    GAP_WAIT = "gap_wait"
    AGENT_STARTING = "agent_starting"
    AGENT_RESTARTING = "agent_restarting"
    NOT_READY = "not_ready"
    BLOCKED_BY_DIALOG = "blocked_by_dialog"
    BLOCKED_BY_QUESTION = "blocked_by_question"
    WRITE_BACKOFF = "write_backoff"
    OUT_OF_TURN = "out_of_turn"
    COMPOSER_UNCLEAR = "composer_unclear"
    AGENT_BUSY = "agent_busy"
    AGENT_SUSPENDED = "agent_suspended"
    HUMAN_DRIVING = "human_driving"
    MANUAL_FLUSH = "manual_flush"
    BEING_FETCHED = "being_fetched"
    NOT_TAKEN = "not_taken"
    # in doubt
    NO_EVIDENCE = "no_evidence"
    PUBLISH_PENDING = "publish_pending"
    # ended undelivered
    WORKER_EXITED = "worker_exited"
    WORKER_LOST = "worker_lost"
    AGENT_RELEASED = "agent_released"
    TASK_DONE = "task_done"
    RESTART_LIMIT = "restart_limit"
    SPAWN_FAILED = "spawn_failed"
    PTY_WRITE_FAILED = "pty_write_failed"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    HOLD_EXPIRED = "hold_expired"
    TOO_LARGE = "too_large"
    SENDER_QUOTA = "sender_quota"
    AMBIGUOUS = "ambiguous"
    # dead letters
    ARCHIVED = "archived"
    PURGED = "purged"
    # frames
    BAD_JSON = "bad_json"
    BAD_VERSION = "bad_version"
    BAD_FRAME = "bad_frame"
    BINARY_FRAME = "binary_frame"
    UNKNOWN_FRAME = "unknown_frame"
    NO_IDENTITY = "no_identity"
    UNKNOWN_REPLY = "unknown_reply"
    # link
    TOKEN_REJECTED = "token_rejected"  # noqa: S105 - a reason, not a token
    MINT_FAILED = "mint_failed"
    DIAL_FAILED = "dial_failed"
    REGISTER_REFUSED = "register_refused"
    NO_ANSWER = "no_answer"
    LINK_CLOSED = "link_closed"
    SUPERSEDED = "superseded"
    WRONG_DESTINATION = "wrong_destination"
    SHUTDOWN = "shutdown"
    # registration and spawn
    AGENT_EXISTS = "agent_exists"
    INVALID_NAME = "invalid_name"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    REGISTRATION_REFUSED = "registration_refused"
    REGISTRATION_TIMEOUT = "registration_timeout"
    CLI_NOT_FOUND = "cli_not_found"
    CLI_NOT_ALLOWED = "cli_not_allowed"
    BYPASS_NOT_ALLOWED = "bypass_not_allowed"
    INVALID_CWD = "invalid_cwd"
    MCP_INJECTION_FAILED = "mcp_injection_failed"
    INVALID_SPAWN_MODE = "invalid_spawn_mode"
    # actions
    HANDLER_UNAVAILABLE = "handler_unavailable"
    HANDLER_FAILED = "handler_failed"
    SIDECAR_LOST = "sidecar_lost"
    SIDECAR_REPLACED = "sidecar_replaced"
    SIDECAR_LEFT = "sidecar_left"
    INVALID_HARNESS_CONFIG = "invalid_harness_config"
    NO_WORKSPACE = "no_workspace"
    MISSING_NAME = "missing_name"
    MISSING_CLI = "missing_cli"
    ACTION_TIMEOUT = "action_timeout"
    BROKER_RESTARTED = "broker_restarted"
    # outbound
    RECIPIENT_NOT_FOUND = "recipient_not_found"
    ENGINE_ERROR = "engine_error"
    EXPIRED = "expired"


RELEASES = (Reason.AGENT_RELEASED, Reason.TASK_DONE)
"""Why an agent is gone because that was wanted."""

SENTENCES: dict[Reason, str] = {
    Reason.DUPLICATE: "The same message was already taken; it is not typed again.",
    Reason.STALE: "Everything up to this sequence number was already settled; the acknowledgement was repeated.",
    Reason.UNKNOWN_TYPE: "This broker does not know this kind of message; it was counted and acknowledged, but not typed.",
    Reason.RECEIPT_ONLY: "It is a receipt (a reaction or read mark): recorded, not typed.",
    Reason.SELF_ECHO: "The agent's own message came back to it; it is not typed into its own terminal.",
    Reason.POISON: "The recipient and sequence number could be read, but the message itself could not.",
    Reason.READ_ELSEWHERE: "The agent marked it as read while it waited, so it is no longer typed.",
    Reason.LOST: "This sequence number never arrived, even after asking for it again; the agent went on without it.",
    Reason.RETIRED: "This agent id belongs to an agent that is gone or was replaced.",
    Reason.UNKNOWN: "No agent with this id was ever registered by this broker.",
    Reason.IN_PROGRESS: "The message is already being delivered; this copy changes nothing.",
    Reason.SEQ_CONFLICT: "Another message already has this sequence number; this one is not typed.",
    Reason.DELIVERY_ID_REUSED: "This delivery id already belongs to another message; this one is neither typed nor acknowledged.",
    Reason.HOLD_FULL: "The agent has the maximum number of waiting messages; the engine keeps this one and offers it again.",
    Reason.QUEUE_FULL: "The queue is full; send again later.",
    Reason.UNDECIDED: "The broker was killed before it decided about the message; the engine offers it again.",
    Reason.NOT_RUNNING: "The agent's program is not running.",
    Reason.GAP_WAIT: "An earlier message has not arrived yet; this one waits for it.",
    Reason.AGENT_STARTING: "The agent is starting; the message waits until it runs.",
    Reason.AGENT_RESTARTING: "The agent's program failed and is being started again; the message waits until it runs.",
    Reason.NOT_READY: "The agent's program has not shown yet that it accepts input; the message waits.",
    Reason.BLOCKED_BY_DIALOG: "The agent's screen shows a dialog or login that a person must answer (relaybroker agent answer NAME).",
    Reason.BLOCKED_BY_QUESTION: "The agent's program asks something that a person must answer (relaybroker agent answer NAME).",
    Reason.OUT_OF_TURN: "The message before it has not been typed; this one waits to keep the order.",
    Reason.WRITE_BACKOFF: "The terminal did not accept the text; it is tried again shortly.",
    Reason.COMPOSER_UNCLEAR: "There is unsent text in the agent's input; nothing is typed on top of it.",
    Reason.AGENT_BUSY: "The agent is working, or another program runs in its terminal; the message waits until it is free.",
    Reason.AGENT_SUSPENDED: "The agent's program is suspended (Ctrl-Z, SIGSTOP); the message waits until it resumes.",
    Reason.HUMAN_DRIVING: "A person is typing in the agent's terminal; the message waits until the line is submitted or cleared.",
    Reason.MANUAL_FLUSH: "A person is holding the agent's messages; they are typed when flushed (relaybroker agent flush NAME).",
    Reason.BEING_FETCHED: "The agent is fetching the message itself; it is typed only if the answer does not reach it.",
    Reason.NOT_TAKEN: "The program's own records show that it did not take the message; it is handed over again.",
    Reason.NO_EVIDENCE: "The program was handed the message and did not show that it took it.",
    Reason.PUBLISH_PENDING: "It may be a message of its sender that was typed before the engine had it; it waits until the engine says so.",
    Reason.WORKER_EXITED: "The agent's program ended before the message was typed.",
    Reason.WORKER_LOST: "The PTY host that ran the program died, or no longer knows it.",
    Reason.AGENT_RELEASED: "The agent was released.",
    Reason.TASK_DONE: "The agent was spawned for one task: its program was idle after that, and the agent was released.",
    Reason.RESTART_LIMIT: "The agent's program failed as often as its restart policy allows; it is not started again.",
    Reason.SPAWN_FAILED: "The program could not be started, or ended immediately.",
    Reason.PTY_WRITE_FAILED: "The terminal did not accept the text.",
    Reason.ATTEMPTS_EXHAUSTED: "All allowed attempts failed.",
    Reason.HOLD_EXPIRED: "The message waited for the longest time allowed, or the PTY host never reported its outcome.",
    Reason.TOO_LARGE: "The message exceeds the limit of 16 KiB for terminal messages.",
    Reason.SENDER_QUOTA: "The sender has as many messages waiting on this node as one may; this one can be redelivered later.",
    Reason.AMBIGUOUS: "It was interrupted while being typed, so nobody knows whether the program got it; the in-doubt policy settled it.",
    Reason.ARCHIVED: "The list was full; this was the oldest letter of whoever had most. The log still has it (relaybroker why ID).",
    Reason.PURGED: "A person removed the dead letter.",
    Reason.BAD_JSON: "The frame is not JSON.",
    Reason.BAD_VERSION: "The frame has a protocol version other than 1.",
    Reason.BAD_FRAME: "The frame lacks a field that its type requires.",
    Reason.BINARY_FRAME: "Binary frames have no meaning on this link.",
    Reason.UNKNOWN_FRAME: "This broker does not know this type of frame; it was counted.",
    Reason.NO_IDENTITY: "The delivery names neither a usable recipient nor a sequence number.",
    Reason.UNKNOWN_REPLY: "The engine answered a request that nobody made or that is already closed.",
    Reason.TOKEN_REJECTED: "The engine does not accept the node's token.",
    Reason.MINT_FAILED: "The engine did not give the node a token.",
    Reason.DIAL_FAILED: "The engine could not be reached.",
    Reason.REGISTER_REFUSED: "The engine refused the node's registration.",
    Reason.NO_ANSWER: "The engine did not answer in time.",
    Reason.LINK_CLOSED: "The connection to the engine ended.",
    Reason.SUPERSEDED: "Another process connected as this node.",
    Reason.WRONG_DESTINATION: "This state directory belongs to another workspace or engine.",
    Reason.SHUTDOWN: "The broker is stopping.",
    Reason.AGENT_EXISTS: "An agent of this name already exists or is being started.",
    Reason.INVALID_NAME: "The name is not allowed.",
    Reason.ENGINE_UNAVAILABLE: "The engine cannot be reached.",
    Reason.REGISTRATION_REFUSED: "The engine refused to register the agent.",
    Reason.REGISTRATION_TIMEOUT: "The engine did not answer the registration in time.",
    Reason.CLI_NOT_FOUND: "The command does not exist on this machine.",
    Reason.BYPASS_NOT_ALLOWED: "The operator does not allow this caller to have a program bypass its permissions.",
    Reason.CLI_NOT_ALLOWED: "Remote callers may start only programs that the node offers, without arguments of their own.",
    Reason.MCP_INJECTION_FAILED: "The agent's tools did not accept its token, so its program was not started.",
    Reason.INVALID_CWD: "The working directory does not exist.",
    Reason.INVALID_SPAWN_MODE: "The spawn mode is unknown.",
    Reason.HANDLER_UNAVAILABLE: "No handler for this action is connected.",
    Reason.HANDLER_FAILED: "The sidecar's handler answered with an error.",
    Reason.SIDECAR_LOST: "The connection to the sidecar ended; it may come back.",
    Reason.SIDECAR_REPLACED: "A newer sidecar connected and took over.",
    Reason.SIDECAR_LEFT: "The sidecar deregistered.",
    Reason.INVALID_HARNESS_CONFIG: "The action's harness configuration cannot be used here.",
    Reason.NO_WORKSPACE: "The broker belongs to no workspace.",
    Reason.MISSING_NAME: "The action does not name an agent.",
    Reason.MISSING_CLI: "The action does not say which program to start.",
    Reason.ACTION_TIMEOUT: "The action did not finish in time.",
    Reason.BROKER_RESTARTED: "The broker was restarted while the action ran; it is not run twice.",
    Reason.RECIPIENT_NOT_FOUND: "The engine knows no such recipient.",
    Reason.EXPIRED: "It expired before it could be carried out.",
    Reason.ENGINE_ERROR: "The engine answered with an error.",
}
