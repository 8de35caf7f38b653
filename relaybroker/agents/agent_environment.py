"""The environment of an agent: what it takes over from the broker's, and what the broker sets.

The one list behind docs/agent-environment.md.

An agent gets a terminal's environment, not that of whoever started the broker: a CI job, a multiplexer, another agent, a shell with its
history. So it is built: each variable is on this list, or named by the operator (`RELAYBROKER_AGENT_ENV`) or by who spawns the agent.

Source: ADR-0036; F116; spec/node-protocol.md section 6.1; spec/local-api.md sections 5.4 and 11.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from itertools import chain

from relaybroker.domain.command_line import is_protected

INHERITED: dict[str, tuple[str, ...]] = {
    about: tuple(names.split())
    for about, names in {
        "User, language, directories": """
            HOME USER LOGNAME SHELL PATH TZ TZDIR TMPDIR TEMP TMP LANG LANGUAGE LC_ALL LC_ADDRESS LC_COLLATE LC_CTYPE
            LC_IDENTIFICATION LC_MEASUREMENT LC_MESSAGES LC_MONETARY LC_NAME LC_NUMERIC LC_PAPER LC_TELEPHONE LC_TIME
            LOCALE_ARCHIVE XDG_CONFIG_HOME XDG_CONFIG_DIRS XDG_DATA_HOME XDG_DATA_DIRS XDG_STATE_HOME XDG_CACHE_HOME
            XDG_RUNTIME_DIR TERMINFO_DIRS
        """,
        "Browser login, key ring, clipboard, the user's editor": """
            DISPLAY WAYLAND_DISPLAY XAUTHORITY DBUS_SESSION_BUS_ADDRESS BROWSER EDITOR VISUAL WSL_DISTRO_NAME
            WSL_INTEROP WSLENV
        """,
        "Keys and identities for other systems": """
            SSH_AUTH_SOCK SSH_AGENT_PID SSH_ASKPASS GNUPGHOME KRB5CCNAME KRB5_CONFIG GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL
            GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL GIT_SSH GIT_SSH_COMMAND GIT_CONFIG_GLOBAL GIT_CONFIG_SYSTEM
            GH_TOKEN GH_HOST GH_CONFIG_DIR GH_ENTERPRISE_TOKEN GITHUB_TOKEN GITHUB_ENTERPRISE_TOKEN GITLAB_TOKEN
            GITLAB_HOST NPM_TOKEN DOCKER_HOST DOCKER_CONFIG KUBECONFIG
        """,
        "Network access and trusted certificates": """
            HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY FTP_PROXY WS_PROXY WSS_PROXY http_proxy https_proxy all_proxy
            no_proxy ftp_proxy ws_proxy wss_proxy SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
            GIT_SSL_CAINFO AWS_CA_BUNDLE NIX_SSL_CERT_FILE NODE_EXTRA_CA_CERTS NODE_USE_SYSTEM_CA NODE_USE_ENV_PROXY
            NODE_TLS_REJECT_UNAUTHORIZED PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_CERT UV_INDEX_URL UV_DEFAULT_INDEX
            NPM_CONFIG_REGISTRY npm_config_registry GOPROXY GOPRIVATE GONOSUMDB CARGO_REGISTRIES_*
        """,
        "Markers that job runners use to find and end what a job started (Jenkins, GitHub, case scripts)": """
            JENKINS_NODE_COOKIE HUDSON_COOKIE RUNNER_TRACKING_ID RBCASE
        """,
        "Tool chain locations": """
            VIRTUAL_ENV CONDA_* MAMBA_* PYENV_ROOT UV_* POETRY_* NVM_* FNM_* VOLTA_HOME N_PREFIX PNPM_HOME BUN_INSTALL
            DENO_DIR DENO_INSTALL RBENV_ROOT GEM_HOME GEM_PATH ASDF_DIR ASDF_DATA_DIR MISE_DATA_DIR CARGO_HOME
            RUSTUP_HOME RUSTUP_TOOLCHAIN GOPATH GOROOT GOBIN GOFLAGS JAVA_HOME SDKMAN_DIR GRADLE_USER_HOME MAVEN_HOME
            M2_HOME ANDROID_HOME ANDROID_SDK_ROOT ANDROID_NDK_HOME DOTNET_ROOT HOMEBREW_PREFIX HOMEBREW_CELLAR
            HOMEBREW_REPOSITORY NIX_PATH NIX_PROFILES LD_LIBRARY_PATH DYLD_FALLBACK_LIBRARY_PATH PKG_CONFIG_PATH
            MANPATH INFOPATH CUDA_HOME CUDA_PATH CUDA_VISIBLE_DEVICES
        """,
        "Provider keys, addresses and models": """
            *_KEY *_BASE_URL *_API_BASE
            ANTHROPIC_* OPENAI_* AZURE_* AWS_* GOOGLE_* GEMINI_API_KEY GEMINI_MODEL GEMINI_API_BASE VERTEX_*
            VERTEXAI_* CLOUD_ML_REGION CLOUDSDK_* BEDROCK_* AI_GATEWAY_* CLOUDFLARE_* CEREBRAS_* COHERE_API_KEY
            DASHSCOPE_* DATABRICKS_HOST DATABRICKS_TOKEN DEEPINFRA_* DEEPSEEK_* FIREWORKS_* GROQ_* HF_HOME HF_TOKEN
            HUGGINGFACE_* KIMI_* LITELLM_* LM_STUDIO_* LMSTUDIO_* MINIMAX_* MISTRAL_* MOONSHOT_* NVIDIA_API_KEY
            OLLAMA_* OPENROUTER_* OR_SITE_URL OR_APP_NAME PERPLEXITY_* PERPLEXITYAI_* REPLICATE_* SAMBANOVA_*
            TOGETHER_* TOGETHERAI_* VENICE_* V0_API_KEY XAI_* ZAI_* ZHIPU_* BRAVE_API_KEY EXA_API_KEY TAVILY_API_KEY
        """,
        "User settings of agent programs (not the variables that a program sets to tell its children they run inside it)": """
            CLAUDE_CONFIG_DIR CLAUDE_CODE_USE_* CLAUDE_CODE_SKIP_* CLAUDE_CODE_OAUTH_TOKEN CLAUDE_CODE_API_KEY_*
            CLAUDE_CODE_CLIENT_* CLAUDE_CODE_MAX_* CLAUDE_CODE_DISABLE_* CLAUDE_CODE_ENABLE_TELEMETRY
            CLAUDE_CODE_SUBAGENT_MODEL CLAUDE_CODE_EFFORT_LEVEL CLAUDE_CODE_SHELL CLAUDE_CODE_AUTO_COMPACT_WINDOW
            CLAUDE_CODE_EXPERIMENTAL_* MAX_THINKING_TOKENS MAX_MCP_OUTPUT_TOKENS MCP_TIMEOUT MCP_TOOL_TIMEOUT
            API_TIMEOUT_MS BASH_DEFAULT_TIMEOUT_MS BASH_MAX_TIMEOUT_MS BASH_MAX_OUTPUT_LENGTH USE_BUILTIN_RIPGREP
            DISABLE_TELEMETRY DISABLE_ERROR_REPORTING DISABLE_COST_WARNINGS DISABLE_PROMPT_CACHING* DISABLE_*COMPACT
            DISABLE_INTERLEAVED_THINKING DISABLE_NON_ESSENTIAL_MODEL_CALLS DO_NOT_TRACK OTEL_EXPORTER_*
            OTEL_METRICS_EXPORTER OTEL_LOGS_EXPORTER CODEX_HOME CODEX_API_KEY CODEX_OSS_* GEMINI_CLI_HOME
            GEMINI_CLI_SYSTEM_* GEMINI_CLI_TRUST_WORKSPACE GEMINI_SANDBOX GEMINI_TELEMETRY_* QWEN_HOME QWEN_MODEL
            QWEN_CODE_SYSTEM_* QWEN_OAUTH_* OPENCODE_API_KEY OPENCODE_CONFIG OPENCODE_CONFIG_DIR
            OPENCODE_CONFIG_CONTENT OPENCODE_MODELS_* OPENCODE_DISABLE_* OPENCODE_ENABLE_* OPENCODE_EXPERIMENTAL*
            OPENCODE_AUTO_* COPILOT_GITHUB_TOKEN COPILOT_HOME COPILOT_MODEL COPILOT_PROVIDER_* COPILOT_OFFLINE
            COPILOT_AUTO_UPDATE COPILOT_CUSTOM_INSTRUCTIONS_DIRS CLINE_DIR CLINE_DATA_* CLINE_API_KEY AIDER_*
            PI_CODING_AGENT_DIR PI_OFFLINE PI_SKIP_VERSION_CHECK PI_CACHE_RETENTION GOOSE_PROVIDER GOOSE_MODEL
            GOOSE_MODE CURSOR_API_KEY FACTORY_API_KEY AMP_API_KEY AMP_URL
        """,
    }.items()
}
"""What an agent takes over from the broker's environment: what the variables are about, and their names (`*` stands for anything)."""

_PROBES = """
    CI NO_COLOR FORCE_COLOR CLICOLOR TERM TERM_PROGRAM TERMINFO LC_TERMINAL TMUX STY COLUMNS LINES WINDOWID GPG_TTY
    CLAUDECODE CLAUDE_CODE_ENTRYPOINT CODEX_CI GEMINI_CLI VSCODE_PID HISTFILE PROMPT_COMMAND BASH_ENV ENV PAGER
    GIT_DIR PYTHONPATH PYTHONSTARTUP NODE_OPTIONS LD_PRELOAD TRACEPARENT INVOCATION_ID OLDPWD SHLVL
"""
PROBES_OF_THE_STARTER = tuple(_PROBES.split())
"""Some that are not taken over, for the page: they say where the broker was started, or change every program of a kind."""

NO_HISTORY = {
    "HISTFILE": "",
    "fish_history": "",
    "NODE_REPL_HISTORY": "",
    "PYTHON_HISTORY": "/dev/null",
    "SQLITE_HISTORY": "/dev/null",
    "PSQL_HISTORY": "/dev/null",
    "MYSQL_HISTFILE": "/dev/null",
    "REDISCLI_HISTFILE": "/dev/null",
    "LESSHISTFILE": "-",
}
"""So that nothing of an agent's terminal gets into a person's history files; each as its program documents it."""

SET = {
    "TERM": "xterm-256color",
    "COLORTERM": "truecolor",
    **NO_HISTORY,
    "CLAUDE_CODE_ENABLE_PROMPT_SUGGESTION": "false",
    "DISABLE_AUTOUPDATER": "1",
}
"""What every agent gets, whatever the broker's environment says."""

_WILD = re.compile("[*?[]")

DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
"""For a broker that was started without PATH."""


def inherited(environment: Mapping[str, str], named: Iterable[str] = ()) -> dict[str, str]:
    """What an agent takes over from the broker's environment; a PATH and a locale with UTF-8 in any case.

    Args:
        environment: of the broker.
        named: further names and patterns, by the operator. They can bring anything but secrets and identities of the broker.
    """
    names = {*chain.from_iterable(INHERITED.values()), *named}
    patterns = re.compile("|".join(translate(name) for name in names if _WILD.search(name)))
    kept = {
        name: value
        for name, value in environment.items()
        if (name in names or patterns.match(name)) and not is_protected(name)
    }
    locale = {} if kept.keys() & {"LC_ALL", "LC_CTYPE", "LANG"} else {"LANG": "C.UTF-8"}
    return {"PATH": DEFAULT_PATH} | locale | kept


PRECEDENCE = """
From lowest to highest precedence:

1. variables inherited from the broker's environment: the list below, and the names and patterns in `RELAYBROKER_AGENT_ENV`
   (`RELAYBROKER_AGENT_ENV="STRIPE_API_KEY,MY_TEAM_*"`; `*` inherits everything but the broker's secrets);
2. variables that the broker sets for every agent;
3. variables of the spawn: `relaybroker agent spawn --env NAME=VALUE` (`--env NAME` takes the value from the caller's environment and keeps
   it out of the process list), or `env` in `POST /api/spawn` or its `harnessConfig`. Events record the names; no event or log has the
   values;
4. the `relaybroker` command: its directory is always appended to `PATH`;
5. the agent's identity: `RELAY_AGENT_NAME`, `RELAY_AGENT_TOKEN` and the other `RELAY_*` identity variables, which only the broker can set;
   `RELAYBROKER_URL`, where the broker accepts that token (README, "Agents answer");
   and `RELAYBROKER_SESSION`, with which a release finds and ends everything the agent started.

Variables that name a discovery file shared by instances of a program (`CLINE_HUB_DISCOVERY_PATH`) point to a file of the agent's own.

The broker's environment is read when the broker starts. For later changes, restart the broker or use `--env`.
"""
"""For the page."""

HISTORY = """
## History files

With the variables above, bash, ksh, zsh, fish, the REPLs of node and Python (from 3.13 on), sqlite3, psql, mysql, redis-cli and less keep
no history of what is typed in an agent's terminal. This does not work if a user's start-up file sets the history file afterwards
(zsh with `HISTFILE=` in `.zshrc`; the same in `.bashrc` or `.kshrc`), or if no variable controls a program's history (tcsh with
`set savehist`, Python before 3.13, nushell, PowerShell). In that case test `RELAY_AGENT_NAME` at the end of the start-up file:
`[ -n "$RELAY_AGENT_NAME" ] && unset HISTFILE`.
"""
"""For the page."""
