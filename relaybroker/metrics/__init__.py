"""What Prometheus is told, with the alert rules and the dashboard that go with it. It imports adapters and domain."""
