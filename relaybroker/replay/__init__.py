"""Sessions: what a core was told and what it decided, as a file, and playing that again.

`session` is the file, `exporting` makes one from a log, `recording` writes one while a broker runs, `playing` decides it
again and compares, `policies` changes what the operator chose, `redaction` takes out what people wrote, `telling` says it
to a person.

It imports agents (for harnesses), adapters and domain.

Source: ADR-0025 (inputs are in the log), ADR-0026 (the file), ADR-0027 (how it is played).
"""
