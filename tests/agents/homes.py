"""Clean homes, projects and environments in which the real programs meet our model server, or their first start.

`make(installed, folder, model_url)` gives a program that is set up and trusted; `case` names a first start or another
state in which it asks something (see CASES). Keys are dummies; nothing needs an account or a network.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.agents.install import Installed

CLAUDE_KEY = "sk-ant-api03-dummy-dummy-dummy-dummy-0000"


class Home(NamedTuple):
    """Everything that is needed to start one program."""

    program: str
    version: str
    argv: list[str]
    env: dict[str, str]
    home: Path
    project: Path


def make(installed: Installed, folder: Path, model_url: str, case: str = "") -> Home:
    """A home in `folder/home` with a project in `folder/project`, made from nothing."""
    home, project = folder / "home", folder / "project"
    for one in (home, project):
        shutil.rmtree(one, ignore_errors=True)
        one.mkdir(parents=True)
    (project / "README.md").write_text("a test project\n")
    for words in (
        "init -q -b main", "config user.name T", "config user.email t@example.com", "add README.md", "commit -qm A",
    ):  # fmt: skip
        subprocess.run(["git", *words.split()], cwd=project, check=True)
    setup = _Setup(installed, home, project, model_url)
    return setup.made(case)


def cases(program: str) -> tuple[str, ...]:
    """The states in which this program asks something before its composer shows."""
    return tuple(CASES.get(program, {}))


class _Setup:
    """Writes what each program reads at its start."""

    def __init__(self, installed: Installed, home: Path, project: Path, url: str) -> None:
        self.program = installed.program
        self.installed = installed
        self.home, self.project, self.url = home, project, url
        self.argv = [self.program]
        path = ":".join([*(str(one) for one in installed.path), "/usr/local/bin", "/usr/bin", "/bin"])
        self.env = {
            "HOME": str(home), "PATH": path, "TERM": "xterm-256color", "LANG": "C.UTF-8", "USER": "tester",
            "SHELL": "/bin/bash",
        }  # fmt: skip

    def made(self, case: str) -> Home:
        _BASE[self.program](self)
        if case:
            CASES[self.program][case](self)
        # No network: a program that installs something at its start (opencode does) fails at once instead of slowly.
        self.write(".npmrc", "registry=http://127.0.0.1:9/\nfetch-retries=0\n")
        return Home(self.program, self.installed.version, self.argv, self.env, self.home, self.project)

    def write(self, name: str, content: Any) -> None:
        place = self.home / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))

    def change(self, name: str, **values: Any) -> None:
        place = self.home / name
        self.write(name, json.loads(place.read_text()) | values)

    def forget(self) -> None:
        """An empty home: the first start."""
        shutil.rmtree(self.home)
        self.home.mkdir()


# --- set up and trusted -----------------------------------------------------------------------------------------------


def _claude(setup: _Setup) -> None:
    setup.env |= {
        "ANTHROPIC_BASE_URL": setup.url, "ANTHROPIC_API_KEY": CLAUDE_KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_ENABLE_PROMPT_SUGGESTION": "false", "IS_SANDBOX": "1",
    }  # fmt: skip
    trusted = {
        "hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True, "projectOnboardingSeenCount": 3,
        "allowedTools": [],
    }  # fmt: skip
    setup.write(".claude.json", {
        "hasCompletedOnboarding": True, "lastOnboardingVersion": setup.installed.version, "theme": "dark",
        "hasSeenAutoDefaultNudge": True, "numStartups": 5, "autoUpdates": False, "projects": {str(setup.project): trusted},
        "customApiKeyResponses": {"approved": [CLAUDE_KEY[-20:]], "rejected": []},
    })  # fmt: skip
    setup.write(".claude/settings.json", {"theme": "dark", "permissions": {"defaultMode": "default"}})


def _codex(setup: _Setup) -> None:
    setup.env |= {"MOCK_KEY": "dummy"}
    _codex_config(setup, trusted=True)


def _codex_config(setup: _Setup, *, trusted: bool, update: bool = False, more: str = "") -> None:
    trust = f'[projects."{setup.project}"]\ntrust_level = "trusted"\n' if trusted else ""
    setup.write(
        ".codex/config.toml",
        f"""model = "gpt-5"
model_provider = "mock"
check_for_update_on_startup = {str(update).lower()}
[model_providers.mock]
name = "mock"
base_url = "{setup.url}/v1"
wire_api = "responses"
env_key = "MOCK_KEY"
{trust}{more}""",
    )


def _gemini(setup: _Setup) -> None:
    setup.env |= {"GEMINI_API_KEY": "dummy", "GOOGLE_GEMINI_BASE_URL": setup.url}
    setup.write(".gemini/settings.json", {
        "security": {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": True}},
        "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
        "privacy": {"usageStatisticsEnabled": False},
    })  # fmt: skip
    setup.write(".gemini/trustedFolders.json", {str(setup.project): "TRUST_FOLDER"})


def _opencode(setup: _Setup) -> None:
    setup.env |= {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}
    provider = {
        "npm": "@ai-sdk/openai-compatible", "name": "Mock",
        "options": {"baseURL": f"{setup.url}/v1", "apiKey": "dummy"},
        "models": {"mock-model": {"name": "Mock", "tool_call": True}},
    }  # fmt: skip
    setup.write(".config/opencode/opencode.json", {
        "$schema": "https://opencode.ai/config.json", "autoupdate": False, "share": "disabled",
        "model": "mock/mock-model", "small_model": "mock/mock-model", "provider": {"mock": provider},
        "permission": {"bash": "ask", "edit": "ask"},
    })  # fmt: skip


def _qwen(setup: _Setup) -> None:
    setup.env |= {"OPENAI_API_KEY": "dummy", "OPENAI_BASE_URL": f"{setup.url}/v1", "OPENAI_MODEL": "mock-model"}
    setup.write(".qwen/settings.json", {
        "security": {"auth": {"selectedType": "openai"}},
        "general": {"disableAutoUpdate": True, "enableAutoUpdate": False},
        "privacy": {"usageStatisticsEnabled": False}, "tools": {"approvalMode": "default"},
    })  # fmt: skip


def _copilot(setup: _Setup) -> None:
    setup.env |= {
        "COPILOT_PROVIDER_BASE_URL": f"{setup.url}/v1", "COPILOT_MODEL": "mock-model",
        "COPILOT_PROVIDER_API_KEY": "dummy", "COPILOT_OFFLINE": "true", "COPILOT_AUTO_UPDATE": "false",
    }  # fmt: skip
    setup.write(".copilot/config.json", {"trusted_folders": [str(setup.project)], "banner": "never"})


def _pi(setup: _Setup) -> None:
    setup.env |= {"PI_OFFLINE": "1"}
    model = {
        "id": "mock-model", "name": "Mock", "reasoning": False, "input": ["text"], "contextWindow": 128000,
        "maxTokens": 8000, "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
    }  # fmt: skip
    provider = {"baseUrl": f"{setup.url}/v1", "api": "openai-completions", "apiKey": "dummy", "models": [model]}
    setup.write(".pi/agent/models.json", {"providers": {"mock": provider}})
    setup.write(
        ".pi/agent/settings.json", {"defaultProvider": "mock", "defaultModel": "mock-model", "quietStartup": False}
    )


def _cline(setup: _Setup) -> None:
    made = "2026-01-01T00:00:00.000Z"
    settings = {
        "provider": "openai-compatible", "apiKey": "dummy", "model": "mock-model", "baseUrl": f"{setup.url}/v1",
    }  # fmt: skip
    provider = {"settings": settings, "updatedAt": made, "tokenSource": "manual"}
    setup.write(".cline/data/settings/providers.json", {
        "version": 1, "lastUsedProvider": "openai-compatible", "modes": {},
        "providers": {"openai-compatible": provider},
    })  # fmt: skip
    setup.write(
        ".cline/data/settings/cli-notices.json",
        {"shown": {"cline-cli-cline-pass-intro": True, "cline-cli-desktop-launch": True}},
    )


def _aider(setup: _Setup) -> None:
    setup.env |= {
        "OPENAI_API_BASE": f"{setup.url}/v1", "OPENAI_API_KEY": "dummy", "AIDER_MODEL": "openai/mock-plain",
        "AIDER_CHECK_UPDATE": "false", "AIDER_ANALYTICS": "false", "AIDER_SHOW_MODEL_WARNINGS": "false",
        "AIDER_SHOW_RELEASE_NOTES": "false", "AIDER_GITIGNORE": "false", "AIDER_EDIT_FORMAT": "diff",
        "AIDER_MAX_CHAT_HISTORY_TOKENS": "1000000",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }  # fmt: skip
    setup.write(".aider/caches/model_prices_and_context_window.json", {"none": {}})


_BASE: dict[str, Callable[[_Setup], None]] = {
    "claude": _claude, "codex": _codex, "gemini": _gemini, "opencode": _opencode, "qwen": _qwen,
    "copilot": _copilot, "pi": _pi, "cline": _cline, "aider": _aider,
}  # fmt: skip


# --- first starts and other questions ---------------------------------------------------------------------------------


def _claude_trust(setup: _Setup) -> None:
    setup.change(".claude.json", projects={})


def _claude_api_key(setup: _Setup) -> None:
    setup.change(".claude.json", customApiKeyResponses={"approved": [], "rejected": []})


def _claude_bypass(setup: _Setup) -> None:
    setup.argv = ["claude", "--dangerously-skip-permissions"]


def _claude_mcp(setup: _Setup) -> None:
    (setup.project / ".mcp.json").write_text(json.dumps({"mcpServers": {"probe": {"command": "/bin/cat", "args": []}}}))


def _codex_update(setup: _Setup) -> None:
    setup.env["CODEX_MANAGED_BY_NPM"] = "1"
    _codex_config(setup, trusted=True, update=True)
    checked = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    setup.write(
        ".codex/version.json", {"latest_version": "99.0.0", "last_checked_at": checked, "dismissed_version": None}
    )


def _codex_login(setup: _Setup) -> None:
    setup.forget()


def _gemini_login(setup: _Setup) -> None:
    del setup.env["GEMINI_API_KEY"]
    setup.forget()
    setup.write(".gemini/trustedFolders.json", {str(setup.project): "TRUST_FOLDER"})


def _gemini_trust(setup: _Setup) -> None:
    (setup.home / ".gemini/trustedFolders.json").unlink()


def _qwen_login(setup: _Setup) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        del setup.env[name]
    setup.forget()


def _copilot_trust(setup: _Setup) -> None:
    setup.write(".copilot/config.json", {"banner": "never"})


def _copilot_login(setup: _Setup) -> None:
    for name in [one for one in setup.env if one.startswith("COPILOT_")]:
        del setup.env[name]
    setup.env["COPILOT_AUTO_UPDATE"] = "false"


def _claude_auto_mode(setup: _Setup) -> None:
    setup.change(".claude.json", hasSeenAutoDefaultNudge=False)


def _cline_promotion(setup: _Setup) -> None:
    (setup.home / ".cline/data/settings/cli-notices.json").unlink()


def _aider_gitignore(setup: _Setup) -> None:
    del setup.env["AIDER_GITIGNORE"]


def _aider_no_git(setup: _Setup) -> None:
    shutil.rmtree(setup.project / ".git")


def _nothing(setup: _Setup) -> None:
    setup.forget()


CASES: dict[str, dict[str, Callable[[_Setup], None]]] = {
    "claude": {
        "offline": _nothing, "trust": _claude_trust, "api-key": _claude_api_key,
        "bypass": _claude_bypass, "mcp": _claude_mcp, "auto-mode": _claude_auto_mode,
    },
    "codex": {
        "login": _codex_login, "trust": lambda setup: _codex_config(setup, trusted=False), "update": _codex_update,
    },
    "gemini": {"login": _gemini_login, "trust": _gemini_trust},
    "opencode": {"onboarding": _nothing},
    "qwen": {"login": _qwen_login},
    "copilot": {"trust": _copilot_trust, "login": _copilot_login},
    "pi": {"login": _nothing},
    "cline": {"login": _nothing, "promotion": _cline_promotion},
    "aider": {"gitignore": _aider_gitignore, "no-git": _aider_no_git},
}  # fmt: skip
