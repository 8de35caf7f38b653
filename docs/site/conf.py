"""The static site: `make site` builds it into build/site. Sphinx reads the Markdown as it is (MyST); a warning fails the build."""

from __future__ import annotations

project = "relaybroker"
author = "the relaybroker project"
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "ADR/**",
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "fixtures/**/README.md",
]
exclude_patterns = ["docs/site/**", ".venv*", "build/**", "node_modules/**"]
html_theme = "furo"
html_title = "relaybroker"
html_copy_source = False
myst_heading_anchors = 4
suppress_warnings = [
    "misc.highlighting_failure",  # mermaid has no lexer: diagrams stay text
    "toc.not_included",  # README and others are linked, not listed
    "myst.xref_missing",  # links to files of the repository that are no pages; tests/unit/docs looks them up
]
