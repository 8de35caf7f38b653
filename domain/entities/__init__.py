"""What the state is made of: one kind of thing each, plain data, changed only by the fold (`relaybroker.domain.changes`)."""

from relaybroker.domain.entities.action import Action
from relaybroker.domain.entities.agent import Act, Membership, Registration
from relaybroker.domain.entities.broker import Counters, OwnIdentity
from relaybroker.domain.entities.delivery import Delivery, FlushHold, Sent
from relaybroker.domain.entities.host import Host
from relaybroker.domain.entities.link import EngineError, Link, Pending
from relaybroker.domain.entities.message import Message, SeenMessage, Send
from relaybroker.domain.entities.sidecar import Sidecar, Supervised
from relaybroker.domain.entities.stranger import Stranger
from relaybroker.domain.entities.worker import Crash, Worker

__all__ = [
    "Act",
    "Action",
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
    "Pending",
    "Registration",
    "SeenMessage",
    "Send",
    "Sent",
    "Sidecar",
    "Stranger",
    "Supervised",
    "Worker",
]
