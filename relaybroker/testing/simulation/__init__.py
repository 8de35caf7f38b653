"""The real core in a simulated world, exact to the last event: one seed decides everything that happens.

    python -m relaybroker.testing.simulation 12345 --trace     one seed, with everything that happened
    make simulate SEEDS=300                                    the first 300 seeds;  SEEDS=7,12345 these two

| part | stands for | as it really is |
|---|---|---|
| `timeline` | time | events in order; the wall clock may jump |
| `disk` | the journal | records in their stored form, commits that take time, what a crash leaves |
| `node` | the broker process | the rounds of `relaybroker.node.runtime`, effects after the commit, adapters' guarantees |
| `engine` | the engine | appendix A of the node protocol: rows, pushes, replays, acks by name |
| `host` | the PTY host | idempotent, reports kept until confirmed, programs with a life of their own |
| `moves` | everybody else | what may happen next: messages, faults, people |
| `checks` | the promises | a plain model that watches from outside and shares nothing with the core |
| `marks` | rare branches | which ones a batch of seeds has reached |

It lives beside the product, not in `tests`, because the tools for users' own tests stand on the same parts.

Source: design/architecture.md; spec/node-protocol.md sections 9, 10 and appendix A; ADR-0020.
"""
