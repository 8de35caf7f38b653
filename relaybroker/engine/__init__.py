"""The embedded engine: a single-machine control plane with the hosted contract, on aiohttp and SQLite.

Source: spec/engine-contract.md. It imports nothing of the broker that it serves, and nothing imports it: it runs as a process.
"""
