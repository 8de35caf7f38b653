"""The application, in rooms; each says on top what belongs there and what it may import. No module stands outside of them.

| room | what |
|---|---|
| `cli` | the commands |
| `node` | the running broker: start, loop, stop |
| `enrolment` | which engine, workspace and node it belongs to |
| `agents` | what an agent is started with |
| `config` | settings, paths, `connection.json` |
| `api` | the local API and its OpenAPI document |
| `audit`, `replay` | questions to the log; recorded sessions |
| `engine` | the embedded engine |
| `serving` | bounds of an HTTP server, for the local API and the engine |
| `testing`, `demo` | for users' tests and ours; the main job, shown |
| `reference` | the pages in docs/ |
| `adapters`, `domain` | links to the folders at the top of the repository: I/O, and the pure core |

The import contracts in pyproject.toml hold the order of the rooms.
"""

__version__ = "0.1.0"
