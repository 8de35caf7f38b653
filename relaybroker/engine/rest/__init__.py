"""The REST routes of the engine, one module for each section of the contract."""
