"""What a person can do about each reason, or what would have made it otherwise. Shown by `why` and in docs/reasons.md.

A test checks that none is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from domain.reasons import Reason

REMEDIES: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.DUPLICATE: "Nothing: the message was delivered by the first copy.",
        Reason.STALE: "Nothing: the message was settled before.",
        Reason.UNKNOWN_TYPE: "A broker that knows this kind of message; see if there is a newer release.",
        Reason.RECEIPT_ONLY: "Nothing: receipts are not typed.",
        Reason.SELF_ECHO: "Nothing: the agent wrote it itself.",
        Reason.POISON: "Send it again in a form that the spec knows; report the sender's software.",
        Reason.LOST: "An engine that still had the frame when it was asked again; ask the sender to repeat it.",
        Reason.RETIRED: "Start the agent again, then send again.",
        Reason.UNKNOWN: "Start the agent with this broker, then send again.",
        Reason.IN_PROGRESS: "Nothing: the first copy goes on.",
        Reason.SEQ_CONFLICT: "An engine that gives each number once; send the message again and report the engine.",
        Reason.DELIVERY_ID_REUSED: "An engine that gives each delivery id once; send the message again and report the engine.",
        Reason.HOLD_FULL: "Let the agent take what waits for it (relaybroker why AGENT); the engine offers this one again.",
        Reason.QUEUE_FULL: "Send more slowly, or wait until the link is back.",
        Reason.NOT_RUNNING: "Start the agent: relaybroker agent spawn.",
        Reason.GAP_WAIT: "Nothing yet: the earlier message is asked for, and given up after a bounded wait.",
        Reason.AGENT_STARTING: "Nothing yet: it is typed when the agent runs.",
        Reason.NOT_READY: "Look at the screen: relaybroker agent attach NAME.",
        Reason.BLOCKED_BY_DIALOG: "Answer the dialog: relaybroker agent attach NAME; or allow its answer with RELAYBROKER_AUTO_ANSWER.",
        Reason.WRITE_BACKOFF: "A program that reads its input.",
        Reason.WORKER_EXITED: "A program that does not end; start it again: relaybroker agent spawn.",
        Reason.WORKER_LOST: "A PTY host that is not killed; start the agent again: relaybroker agent spawn.",
        Reason.AGENT_RELEASED: "A later release; start the agent again: relaybroker agent spawn.",
        Reason.SPAWN_FAILED: "A command that starts: see the agent's last output with relaybroker why AGENT.",
        Reason.PTY_WRITE_FAILED: "A program that reads its input; start it again: relaybroker agent spawn.",
        Reason.ATTEMPTS_EXHAUSTED: "A program that reads its input; deliver it again when it does.",
        Reason.HOLD_EXPIRED: "An agent that takes input earlier: see what it waited for in the chain.",
        Reason.TOO_LARGE: "A message below 16 KiB; put the rest into a file and send its path.",
        Reason.AMBIGUOUS: "Look at the agent's screen whether it was typed; choose the policy with --in-doubt.",
        Reason.BAD_JSON: "Report the engine.",
        Reason.BAD_VERSION: "An engine that speaks version 1 of the node protocol.",
        Reason.BAD_FRAME: "Report the engine.",
        Reason.BINARY_FRAME: "Report the engine.",
        Reason.UNKNOWN_FRAME: "A broker that knows this frame; see if there is a newer release.",
        Reason.NO_IDENTITY: "Report the engine.",
        Reason.UNKNOWN_REPLY: "Nothing: nobody waited for it (any more).",
        Reason.TOKEN_REJECTED: "A valid token: set RELAY_NODE_TOKEN anew, or unset it to have one minted, and restart.",
        Reason.MINT_FAILED: "A valid workspace key (RELAY_API_KEY) and an engine that answers; it is tried again.",
        Reason.DIAL_FAILED: "An engine that can be reached from here: see its address in relaybroker status. It is tried again.",
        Reason.REGISTER_REFUSED: "What the engine asks for in its message; it is tried again.",
        Reason.NO_ANSWER: "An engine that answers; it is tried again.",
        Reason.LINK_CLOSED: "Nothing: the link is made again.",
        Reason.SUPERSEDED: "One broker per node: stop the other one, or give this one another state directory.",
        Reason.WRONG_DESTINATION: "The workspace and engine of this state directory, or another --state-dir.",
        Reason.SHUTDOWN: "Start the broker: relaybroker up.",
        Reason.AGENT_EXISTS: "Another name, or release the agent first: relaybroker agent release NAME.",
        Reason.INVALID_NAME: "A name that the spec allows.",
        Reason.ENGINE_UNAVAILABLE: "An engine that can be reached: relaybroker why node.",
        Reason.REGISTRATION_REFUSED: "What the engine asks for in its message.",
        Reason.REGISTRATION_TIMEOUT: "An engine that answers: relaybroker why node.",
        Reason.CLI_NOT_FOUND: "Install the command, or name its full path.",
        Reason.CLI_NOT_ALLOWED: "A program that the node offers: RELAYBROKER_CAPABILITIES, and RELAYBROKER_REMOTE_ARGS for arguments.",
        Reason.INVALID_CWD: "A directory that exists on this machine.",
        Reason.INVALID_SPAWN_MODE: "A spawn mode that the spec knows.",
        Reason.HANDLER_UNAVAILABLE: "A connected sidecar that serves the action.",
        Reason.HANDLER_FAILED: "See the sidecar's own log.",
        Reason.SIDECAR_LOST: "Start the sidecar again.",
        Reason.SIDECAR_REPLACED: "One sidecar per broker.",
        Reason.SIDECAR_LEFT: "Start the sidecar again.",
        Reason.INVALID_HARNESS_CONFIG: "A harness configuration that the spec knows.",
        Reason.NO_WORKSPACE: "Join a workspace: set RELAY_API_KEY and restart.",
        Reason.MISSING_NAME: "An action that names the agent.",
        Reason.MISSING_CLI: "An action that names the program, in its input or as spawn:<harness>.",
        Reason.ACTION_TIMEOUT: "Work that ends within the action's deadline.",
        Reason.BROKER_RESTARTED: "Invoke the action again.",
        Reason.RECIPIENT_NOT_FOUND: "A recipient that the engine knows: see its list of agents and channels.",
        Reason.ENGINE_ERROR: "What the engine says in its answer.",
        Reason.EXPIRED: "An engine or agent that is there in time; send it again.",
    }
)
