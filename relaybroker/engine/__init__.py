"""The embedded engine: a single-machine control plane with the hosted contract, on aiohttp and SQLite.

Source: spec/engine-contract.md. It shares no code with the broker it serves (import contract).
"""
