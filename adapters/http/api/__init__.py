"""The local HTTP and WebSocket API (spec/local-api.md)."""
