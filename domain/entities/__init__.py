"""What the state is made of: one kind of thing each, plain data, changed only by the fold (`relaybroker.domain.changes`)."""

from relaybroker.domain.entities.action import Action
from relaybroker.domain.entities.agent import MARK_READ, Act, Acted, Membership, Registration, SpawnKey
from relaybroker.domain.entities.broker import Counters, OwnIdentity
from relaybroker.domain.entities.delivery import Delivery, FlushHold, Sent
from relaybroker.domain.entities.host import Host
from relaybroker.domain.entities.link import EngineError, Link, Pending
from relaybroker.domain.entities.message import CopyToCome, Message, Pair, SeenMessage, Send
from relaybroker.domain.entities.sidecar import Sidecar, Supervised
from relaybroker.domain.entities.stranger import Stranger
from relaybroker.domain.entities.worker import Crash, Worker

__all__ = [
    "MARK_READ",
    "Act",
    "Acted",
    "Action",
    "CopyToCome",
    "Counters",
    "Crash",
    "Delivery",
    "EngineError",
    "FlushHold",
    "Host",
    "Link",
    "Membership",
    "Message",
    "OwnIdentity",
    "Pair",
    "Pending",
    "Registration",
    "SeenMessage",
    "Send",
    "Sent",
    "Sidecar",
    "SpawnKey",
    "Stranger",
    "Supervised",
    "Worker",
]
