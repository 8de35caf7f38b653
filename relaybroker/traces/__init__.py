"""Traces made from the log: each message a trace, with its place in the log recorded. It imports adapters, audit and domain."""
