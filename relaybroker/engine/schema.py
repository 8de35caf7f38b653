"""The tables of the embedded engine."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS workspaces (
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, key_hash TEXT NOT NULL UNIQUE, system_prompt TEXT, metadata TEXT NOT NULL DEFAULT '{}',
  created_at REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS agents (
  id TEXT PRIMARY KEY, workspace_id TEXT NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL, persona TEXT, metadata TEXT NOT NULL DEFAULT '{}',
  skills TEXT NOT NULL DEFAULT '[]', capabilities TEXT, status TEXT NOT NULL, token_hash TEXT NOT NULL UNIQUE, created_at REAL NOT NULL,
  last_seen REAL, location_type TEXT NOT NULL, location_node_id TEXT, origin_node_id TEXT, session_ref TEXT, resumable INTEGER NOT NULL DEFAULT 0,
  ack_seq INTEGER NOT NULL DEFAULT 0, last_seq INTEGER NOT NULL DEFAULT 0, UNIQUE (workspace_id, name)
) STRICT;
CREATE INDEX IF NOT EXISTS agents_location ON agents (location_node_id);
CREATE TABLE IF NOT EXISTS nodes (
  id TEXT PRIMARY KEY, workspace_id TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, role TEXT NOT NULL, delivery_adapter TEXT NOT NULL,
  delivery TEXT, capabilities TEXT NOT NULL DEFAULT '[]', tags TEXT NOT NULL DEFAULT '[]', version TEXT NOT NULL, status TEXT NOT NULL,
  handlers_live INTEGER NOT NULL DEFAULT 0, load REAL NOT NULL DEFAULT 0, active_agents INTEGER NOT NULL DEFAULT 0,
  max_agents INTEGER NOT NULL DEFAULT 0, last_heartbeat_at REAL, created_at REAL NOT NULL, token_hash TEXT UNIQUE, UNIQUE (workspace_id, name)
) STRICT;
CREATE TABLE IF NOT EXISTS bindings (
  id TEXT PRIMARY KEY, workspace_id TEXT NOT NULL, agent_id TEXT NOT NULL, node_id TEXT NOT NULL, status TEXT NOT NULL, session_ref TEXT,
  priority INTEGER NOT NULL DEFAULT 0, created_at REAL NOT NULL, updated_at REAL NOT NULL, UNIQUE (agent_id, node_id)
) STRICT;
CREATE INDEX IF NOT EXISTS bindings_node ON bindings (node_id, status);
CREATE TABLE IF NOT EXISTS channels (
  id TEXT PRIMARY KEY, workspace_id TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, topic TEXT, metadata TEXT NOT NULL DEFAULT '{}',
  created_by TEXT, created_at REAL NOT NULL, is_archived INTEGER NOT NULL DEFAULT 0, UNIQUE (workspace_id, name)
) STRICT;
CREATE TABLE IF NOT EXISTS conversations (
  id TEXT PRIMARY KEY, workspace_id TEXT NOT NULL, channel_id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, name TEXT, created_at REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS members (
  channel_id TEXT NOT NULL, agent_id TEXT NOT NULL, role TEXT NOT NULL, joined_at REAL NOT NULL, is_muted INTEGER NOT NULL DEFAULT 0,
  last_read_id INTEGER NOT NULL DEFAULT 0, last_read_at REAL, PRIMARY KEY (channel_id, agent_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS members_agent ON members (agent_id);
CREATE TABLE IF NOT EXISTS messages (
  id INTEGER PRIMARY KEY, workspace_id TEXT NOT NULL, channel_id TEXT NOT NULL, agent_id TEXT NOT NULL, agent_name TEXT NOT NULL,
  text TEXT NOT NULL, blocks TEXT, metadata TEXT NOT NULL DEFAULT '{}', thread_id INTEGER, mode TEXT NOT NULL, mentions TEXT NOT NULL DEFAULT '[]',
  created_at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS messages_channel ON messages (channel_id, thread_id, id);
CREATE INDEX IF NOT EXISTS messages_thread ON messages (thread_id, id);
CREATE TABLE IF NOT EXISTS deliveries (
  id TEXT PRIMARY KEY, workspace_id TEXT NOT NULL, message_id INTEGER NOT NULL, channel_id TEXT NOT NULL, agent_id TEXT NOT NULL,
  sender_id TEXT NOT NULL, status TEXT NOT NULL, seq INTEGER NOT NULL, mode TEXT NOT NULL, reason TEXT NOT NULL, payload TEXT NOT NULL,
  expires_at REAL NOT NULL, delivered_at REAL, acked_at REAL, dead_lettered_at REAL, error TEXT, dispatch_attempts INTEGER NOT NULL DEFAULT 0,
  route_node_id TEXT, created_at REAL NOT NULL, updated_at REAL NOT NULL, UNIQUE (agent_id, seq)
) STRICT;
CREATE INDEX IF NOT EXISTS deliveries_open ON deliveries (agent_id, expires_at) WHERE status IN ('queued', 'delivered');
CREATE INDEX IF NOT EXISTS deliveries_expiry ON deliveries (expires_at) WHERE status IN ('queued', 'delivered');
CREATE INDEX IF NOT EXISTS deliveries_sender ON deliveries (sender_id, expires_at, length(payload)) WHERE status IN ('queued', 'delivered');
CREATE INDEX IF NOT EXISTS deliveries_message ON deliveries (message_id, agent_id);
CREATE TABLE IF NOT EXISTS reactions (
  id TEXT PRIMARY KEY, message_id INTEGER NOT NULL, agent_id TEXT NOT NULL, emoji TEXT NOT NULL, created_at REAL NOT NULL,
  UNIQUE (message_id, agent_id, emoji)
) STRICT;
CREATE TABLE IF NOT EXISTS receipts (
  message_id INTEGER NOT NULL, agent_id TEXT NOT NULL, read_at REAL NOT NULL, PRIMARY KEY (message_id, agent_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS actions (
  id TEXT PRIMARY KEY, workspace_id TEXT NOT NULL, name TEXT NOT NULL, description TEXT NOT NULL, handler_agent_id TEXT, handler_node_id TEXT,
  input_schema TEXT, output_schema TEXT, available_to TEXT NOT NULL DEFAULT '[]', created_at REAL NOT NULL, UNIQUE (workspace_id, name)
) STRICT;
CREATE TABLE IF NOT EXISTS invocations (
  id TEXT PRIMARY KEY, workspace_id TEXT NOT NULL, action_name TEXT NOT NULL, frame_action TEXT NOT NULL, kind TEXT NOT NULL,
  caller_id TEXT NOT NULL, caller_name TEXT NOT NULL, handler_agent_id TEXT, handler_node_id TEXT, dispatched_node_id TEXT,
  input TEXT NOT NULL, status TEXT NOT NULL, output TEXT, error TEXT, tried TEXT NOT NULL DEFAULT '[]', attempts INTEGER NOT NULL DEFAULT 0,
  next_attempt_at REAL, dispatched_at REAL, duration_ms INTEGER, created_at REAL NOT NULL, completed_at REAL
) STRICT;
CREATE INDEX IF NOT EXISTS invocations_open ON invocations (dispatched_node_id, status) WHERE status IN ('pending', 'dispatched');
CREATE INDEX IF NOT EXISTS invocations_caller ON invocations (caller_id) WHERE status IN ('pending', 'dispatched');
CREATE TABLE IF NOT EXISTS agent_events (
  agent_id TEXT NOT NULL, sequence INTEGER NOT NULL, id TEXT NOT NULL, workspace_id TEXT NOT NULL, type TEXT NOT NULL, payload TEXT NOT NULL,
  created_at REAL NOT NULL, PRIMARY KEY (agent_id, sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS observer_tokens (
  id TEXT PRIMARY KEY, workspace_id TEXT NOT NULL, name TEXT NOT NULL, description TEXT, scopes TEXT NOT NULL, token_hash TEXT NOT NULL UNIQUE,
  expires_at REAL, created_at REAL NOT NULL, updated_at REAL, last_used_at REAL, UNIQUE (workspace_id, name)
) STRICT;
CREATE TABLE IF NOT EXISTS webhooks (
  id TEXT PRIMARY KEY, workspace_id TEXT NOT NULL, name TEXT NOT NULL, channel_id TEXT NOT NULL, token_hash TEXT NOT NULL UNIQUE,
  created_at REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS files (
  id TEXT PRIMARY KEY, workspace_id TEXT NOT NULL, agent_id TEXT NOT NULL, agent_name TEXT NOT NULL, filename TEXT NOT NULL,
  content_type TEXT NOT NULL, size INTEGER NOT NULL, received INTEGER NOT NULL DEFAULT 0, upload INTEGER NOT NULL DEFAULT 0,
  status TEXT NOT NULL, expires_at REAL NOT NULL, created_at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS files_workspace ON files (workspace_id, agent_id, size);
CREATE TABLE IF NOT EXISTS file_parts (
  id INTEGER PRIMARY KEY, file_id TEXT NOT NULL, number INTEGER NOT NULL, content BLOB NOT NULL, UNIQUE (file_id, number)
) STRICT;
CREATE TABLE IF NOT EXISTS attachments (
  file_id TEXT NOT NULL, message_id INTEGER NOT NULL, PRIMARY KEY (file_id, message_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ticket_key (id INTEGER PRIMARY KEY CHECK (id = 1), value BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS subscriptions (
  id TEXT PRIMARY KEY, workspace_id TEXT NOT NULL, events TEXT NOT NULL, channel TEXT, mentions TEXT, url TEXT NOT NULL, headers TEXT NOT NULL,
  secret TEXT NOT NULL, failures INTEGER NOT NULL DEFAULT 0, next_at REAL NOT NULL DEFAULT 0, delivered INTEGER NOT NULL DEFAULT 0,
  dead INTEGER NOT NULL DEFAULT 0, last_error TEXT, last_delivered_at REAL, created_at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS subscriptions_workspace ON subscriptions (workspace_id);
CREATE TABLE IF NOT EXISTS posts (
  id INTEGER PRIMARY KEY, subscription_id TEXT NOT NULL, workspace_id TEXT NOT NULL, event TEXT NOT NULL, body TEXT NOT NULL, status TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0, error TEXT, created_at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS posts_of ON posts (subscription_id, status, id);
CREATE TABLE IF NOT EXISTS refusals (
  id INTEGER PRIMARY KEY, workspace_id TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, request TEXT NOT NULL, status INTEGER NOT NULL,
  code TEXT NOT NULL, message TEXT NOT NULL, times INTEGER NOT NULL, first_at REAL NOT NULL, last_at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS refusals_workspace ON refusals (workspace_id, id);
CREATE TABLE IF NOT EXISTS idempotency (
  workspace_id TEXT NOT NULL, actor_id TEXT NOT NULL, scope TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, status INTEGER NOT NULL,
  body TEXT NOT NULL, created_at REAL NOT NULL, PRIMARY KEY (workspace_id, actor_id, scope, key)
) STRICT, WITHOUT ROWID;
"""

COLUMNS = (
    ("deliveries", "available_at", "REAL"),
    ("deliveries", "retryable", "INTEGER"),
    ("messages", "attachments", "TEXT NOT NULL DEFAULT '[]'"),
    ("actions", "provider", "TEXT NOT NULL DEFAULT ''"),
)
"""Table, column and type of what was added to tables that databases have from before."""

LATER = """
CREATE INDEX IF NOT EXISTS deliveries_deferred ON deliveries (available_at) WHERE available_at IS NOT NULL;
"""
"""What needs `COLUMNS`."""

INDEX = """
BEGIN;
CREATE VIRTUAL TABLE IF NOT EXISTS messages_text USING fts5 (text, content='messages', content_rowid='id');
CREATE TRIGGER messages_said AFTER INSERT ON messages BEGIN
  INSERT INTO messages_text (rowid, text) VALUES (new.id, new.text);
END;
CREATE TRIGGER messages_gone AFTER DELETE ON messages BEGIN
  INSERT INTO messages_text (messages_text, rowid, text) VALUES ('delete', old.id, old.text);
END;
INSERT INTO messages_text (messages_text) VALUES ('rebuild');
COMMIT;
"""
"""The text of the messages, indexed; the triggers keep it in step, in the transaction of the message."""

NO_INDEX = """
DROP TRIGGER IF EXISTS messages_said;
DROP TRIGGER IF EXISTS messages_gone;
"""
