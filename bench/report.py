"""What was measured, as a table for people and as JSON to compare with."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from daemon.adapters.embedded_mongod import find_mongod

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"
_LIBRARIES = ("aiohttp", "cryptography", "pymongo", "structlog")

# key, what it says, digits
_RUN_ROWS = (
    ("tokens_per_second", "tokens per second", 0),
    ("seconds_from_due_to_last", "seconds from due to the last one stored", 2),
    ("daemon_cpu", "daemon: CPU seconds per 1,000 tokens", 3),
    ("mongod_cpu", "mongod: CPU seconds per 1,000 tokens", 3),
    ("nginx_cpu", "nginx: CPU seconds per 1,000 tokens", 3),
    ("share_of_cores", "used of what the cores have", 2),
    ("mongo_commands", "MongoDB commands per 1,000 tokens", 1),
    ("lead_first_percentile", "seconds left to the old token, first percentile", 1),
    ("daemon_peak_mb", "daemon: peak resident memory, MB", 1),
    ("start_to_ready", "start of the process to ready, seconds", 2),
)
_IDLE_ROWS = (
    ("resident_mb", "daemon: resident memory, MB", 1),
    ("peak_mb", "daemon: peak resident memory, MB", 1),
    ("cpu_percent", "daemon: CPU, percent of one core", 2),
    ("mongo_commands_per_minute", "MongoDB commands per minute", 0),
    ("start_to_ready", "start of the process to ready, seconds", 2),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run. CPU and commands are per 1,000 tokens; memory in MB of 10^6 bytes."""

    tokens_per_second: float
    seconds_from_due_to_last: float
    daemon_cpu: float
    mongod_cpu: float
    nginx_cpu: float
    share_of_cores: float  # by all three together
    daemon_peak_mb: float
    mongo_commands: float
    mongo_commands_by_name: Mapping[str, float]
    lead_first_percentile: float
    start_to_ready: float


@dataclass(slots=True, kw_only=True)
class Results:
    """All of one call."""

    machine: Mapping[str, object]
    versions: Mapping[str, str]
    tokens: int
    concurrency: int
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    runs: dict[str, list[Sample]] = field(default_factory=dict)  # by variant, which took turns
    idle: list[Mapping[str, float]] = field(default_factory=list)


def machine() -> dict[str, object]:
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


def versions() -> dict[str, str]:
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


def save(results: Results) -> str:
    """Write both forms under OUT. Returns the Markdown."""
    OUT.mkdir(exist_ok=True)
    name = f"main_job-{results.at[:19].replace(':', '')}"
    (OUT / f"{name}.json").write_text(json.dumps(asdict(results), indent=2) + "\n")
    text = "\n".join(_markdown(results))
    (OUT / f"{name}.md").write_text(text + "\n")
    return text


def _markdown(results: Results) -> Iterator[str]:
    about, used = results.machine, results.versions
    yield f"{results.at}, {about['cores']} cores ({about['cpu']}), {about['memory_gb']} GB, Linux {about['kernel']}"
    yield ", ".join(f"{name} {number}" for name, number in used.items())
    for variant, samples in results.runs.items():
        yield (
            f"\n**{results.tokens:,} due tokens, {variant}, {results.concurrency} in flight, runs: {len(samples)}**\n"
        )
        yield from _table(_RUN_ROWS, [asdict(sample) for sample in samples])
        names = {name for sample in samples for name in sample.mongo_commands_by_name}
        told = {name: median(one.mongo_commands_by_name.get(name, 0) for one in samples) for name in names}
        each = ", ".join(f"{name} {told[name]:.1f}" for name in sorted(told, key=lambda name: -told[name]))
        yield f"\nMongoDB commands per 1,000 tokens, by name (median): {each}"
    if results.idle:
        yield "\n**Idle, 100,000 stored tokens, none due, a sweep every 15 s**\n"
        yield from _table(_IDLE_ROWS, results.idle)


def _table(rows: Sequence[tuple[str, str, int]], samples: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """One column for a single sample, else three."""
    one = len(samples) == 1
    yield "| | |\n|---|---:|" if one else "| | min | median | max |\n|---|---:|---:|---:|"
    for key, said, digits in rows:
        values = [sample[key] for sample in samples]
        shown = values if one else (min(values), median(values), max(values))
        yield f"| {said} | " + " | ".join(f"{value:,.{digits}f}" for value in shown) + " |"
