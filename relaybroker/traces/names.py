"""The names of spans and attributes, in one place: the messaging conventions of OpenTelemetry are still in development and will change.

Source: https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/ (status: development).
"""

from __future__ import annotations

SYSTEM = "messaging.system"
OPERATION_NAME = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
MESSAGE_ID = "messaging.message.id"
CONVERSATION_ID = "messaging.message.conversation_id"
BODY_SIZE = "messaging.message.body.size"
DESTINATION = "messaging.destination.name"
ERROR_TYPE = "error.type"

SENDER = "relaybroker.sender"
TARGET = "relaybroker.target"
DELIVERY_ID = "relaybroker.delivery.id"
ATTEMPT = "relaybroker.delivery.attempt"
STATE = "relaybroker.delivery.state"
POSITION = "relaybroker.log.position"
EVIDENCE = "relaybroker.evidence"
REASON = "relaybroker.reason"

THIS_SYSTEM = "relaybroker"
PROCESS = "process"
"""The operation type of whoever consumes a message."""
