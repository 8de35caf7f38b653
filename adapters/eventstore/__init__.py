"""The journal: one append-only, hash-chained log of recorded events per broker, durable before anything leaves.

`journal.Journal` writes and reads it inside the broker; `reader.LogReader` reads it from any other process;
`integrity.verify` says what is wrong with one; `snapshots.SnapshotFile` shortens recovery; `lock.StateLock` keeps a
second broker out.

Source: design/architecture.md section 4.
"""
