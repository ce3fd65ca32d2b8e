"""Documents as their readers use them: the code blocks of a page, and a shell in which its commands run."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.environment import bare

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document: str, language: str) -> list[str]:
    """A document's blocks in one language, in their order."""
    written = BLOCK.findall(Path(DOCS, document).read_text())
    return [code for its, code in written if its == language]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """Runs a document's commands in one directory."""

    home: Path
    commands: list[str]
    environment: dict[str, str]

    def attempt(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def run(self, command: str) -> str:
        done = self.attempt(command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def step(self, beginning: str) -> str:
        """Run the one block that begins so; what it prints."""
        (command,) = [command for command in self.commands if command.startswith(beginning)]
        return self.run(command)

    def file(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(Path(self.home, name).read_text())
        return found


def shell_for(document: str, home: Path, *, config: str, **environment: str) -> Shell:
    """A shell with the document's commands, `refreshd` on the path, and `config` as the configuration."""
    file = Path(home, "config.toml")
    file.write_text(config)
    file.chmod(0o600)
    command = Path(home, "bin", "refreshd")
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m daemon "$@"\n')
    command.chmod(0o755)
    return Shell(home=home, commands=blocks(document, "sh"), environment=bare(command.parent, **environment))
