"""What main_job.py measured, as a table for people."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from support.report import table

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


def of_runs(about: str, samples: Sequence[Sample]) -> Iterator[str]:
    """`about`: what the runs had in common."""
    yield f"\n**{about}, runs: {len(samples)}**\n"
    yield from _table(_RUN_ROWS, [asdict(sample) for sample in samples])
    names = {name for sample in samples for name in sample.mongo_commands_by_name}
    told = {name: median(one.mongo_commands_by_name.get(name, 0) for one in samples) for name in names}
    each = ", ".join(f"{name} {told[name]:.1f}" for name in sorted(told, key=lambda name: -told[name]))
    yield f"\nMongoDB commands per 1,000 tokens, by name (median): {each}"


def of_rest(about: str, figures: Mapping[str, float]) -> Iterator[str]:
    yield f"\n**{about}**\n"
    yield from _table(_IDLE_ROWS, [figures])


def _table(rows: Sequence[tuple[str, str, int]], samples: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """One column for a single sample, else three."""
    if len(samples) == 1:
        return table(["", ""], ([said, f"{samples[0][key]:,.{digits}f}"] for key, said, digits in rows))
    return table(["", "min", "median", "max"], (_three(row, samples) for row in rows))


def _three(row: tuple[str, str, int], samples: Sequence[Mapping[str, float]]) -> list[str]:
    key, said, digits = row
    values = [sample[key] for sample in samples]
    return [said, *(f"{value:,.{digits}f}" for value in (min(values), median(values), max(values)))]
