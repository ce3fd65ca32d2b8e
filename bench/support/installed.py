"""What the rivals are written with, installed under out/ from lock files, and again only when those change."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from support.report import HERE, OUT

SOURCES = HERE / "rivals"
VENV = OUT / "rivals" / "venv"
NODE = OUT / "rivals" / "node"
_STAMP = ".installed"  # holds the lock file that was installed
_NAMED = ("authlib", "celery", "httpx2", "requests", "redis")
_HINT = (
    "Debian, Ubuntu: apt-get install redis-server (the service need not run); Node.js 20.19 or later with its npm."
    " Or leave those rivals out: --only."
)


def need(programs: Sequence[str]) -> None:
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"not on PATH: {', '.join(missing)}. {_HINT}")


def install_venv() -> None:
    locked = SOURCES / "requirements.txt"
    if _is(VENV, locked):
        return
    shutil.rmtree(VENV, ignore_errors=True)
    _run([sys.executable, "-m", "venv", VENV])
    pip: Sequence[str | Path] = (
        VENV / "bin" / "python",
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--quiet",
    )
    _run([*pip, "install", "--no-deps", "--require-hashes", "-r", locked])
    shutil.copy(locked, VENV / _STAMP)


def install_node() -> None:
    """The sources go where their packages are, not the packages among the sources."""
    locked = SOURCES / "node" / "package-lock.json"
    shutil.copytree(SOURCES / "node", NODE, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    if not _is(NODE, locked):
        _run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=NODE)
        shutil.copy(locked, NODE / _STAMP)


def rival_versions() -> dict[str, str]:
    """Of what the rivals are written with, by their lock files; and of the programs that run them."""
    node: dict[str, str] = json.loads((SOURCES / "node" / "package.json").read_text())["dependencies"]
    locked = dict(
        re.findall(r"^([a-z0-9.-]+)==(\S+)", (SOURCES / "requirements.txt").read_text(), re.MULTILINE)
    )
    programs = {name: _said(name) for name in ("node", "redis-server")}
    return programs | node | {name: locked[name] for name in _NAMED}


def _said(program: str) -> str:
    if shutil.which(program) is None:
        return "none"
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=10)
    number = re.search(r"\d+(\.\d+)+", done.stdout)
    return number[0] if number else ""


def _is(place: Path, locked: Path) -> bool:
    stamp = place / _STAMP
    return stamp.exists() and stamp.read_bytes() == locked.read_bytes()


def _run(command: Sequence[str | Path], *, cwd: Path | None = None) -> None:
    print(f"installing: {' '.join(map(str, command))}", file=sys.stderr)
    done = subprocess.run(command, cwd=cwd, check=False, env={**os.environ, "NODE_ENV": "production"})
    if done.returncode:
        raise SystemExit(f"that failed with code {done.returncode}: the rivals cannot be installed")
