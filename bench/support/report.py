"""What was measured, as a table for people and as JSON to compare with; both say on what it was measured."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from daemon.adapters.mongo.embedded_mongod import find_mongod

HERE = Path(__file__).resolve().parents[1]
OUT = HERE / "out"
_LIBRARIES = ("aiohttp", "cryptography", "pymongo", "structlog")


class Report:
    """Of one call of the program `name`, made before it measures: the machine is described as it was then. `used`: versions
    beside those of the daemon's own parts.
    """

    def __init__(self, name: str, used: Mapping[str, str] | None = None) -> None:
        self._name = name
        self._at = datetime.now(UTC).isoformat(timespec="seconds")
        self._machine = _machine()
        self._versions = _versions() | dict(used or {})

    def save(self, figures: Mapping[str, object], lines: Iterable[str]) -> None:
        """Write `figures` as JSON and `lines` as Markdown under OUT, and print the lines."""
        about = self._machine
        head = (
            f"{self._at}, {about['cores']} cores ({about['cpu']}), {about['memory_gb']} GB, Linux {about['kernel']}",
            ", ".join(f"{name} {number}" for name, number in self._versions.items()),
            "",
        )
        text = "\n".join((*head, *lines)) + "\n"
        whole = {"at": self._at, "machine": about, "versions": self._versions, **figures}
        OUT.mkdir(exist_ok=True)
        path = OUT / f"{self._name}-{self._at[:19].replace(':', '')}"
        path.with_suffix(".json").write_text(json.dumps(whole, indent=2) + "\n")
        path.with_suffix(".md").write_text(text)
        print(text, end="")
        print(f"written to {path}.json and .md", file=sys.stderr)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Markdown: the first column's words to the left, the others' numbers to the right."""
    yield "| " + " | ".join(head) + " |"
    yield "|---|" + "---:|" * (len(head) - 1)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def spread(values: Sequence[float], *, digits: int) -> str:
    return f"{min(values):,.{digits}f} **{median(values):,.{digits}f}** {max(values):,.{digits}f}"


def _machine() -> dict[str, object]:
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": models[0] if models else platform.machine(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "kernel": platform.release(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _versions() -> dict[str, str]:
    return {
        "refreshd": f"{version('refreshd')} {_said('git', '-C', str(HERE), 'rev-parse', '--short', 'HEAD')}".strip(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: version(name) for name in _LIBRARIES},
        "mongod": _said(str(find_mongod()), "--version").partition("\n")[0].rpartition(" v")[2],
        "nginx": _said("nginx", "-v").rpartition("/")[2],
    }


def _said(program: str, *arguments: str) -> str:
    """What a program says of itself; nothing, where there is no such program."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        return ""
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False, timeout=10)
    return (done.stdout or done.stderr).strip() if done.returncode == 0 else ""
