"""What rivals.py measured, as a table for people and as JSON."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import median

from installed import rival_versions
from report import OUT, machine, versions

OURS = "refreshd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of one contender. CPU seconds are per 1,000 tokens, memory is in MB of 10^6 bytes."""

    contender: str
    round: int
    tokens: int
    in_flight: int
    seconds: float
    tokens_per_second: float
    client_cpu: float
    broker_cpu: float | None
    mongod_cpu: float
    nginx_cpu: float
    peak_mb: float


def save(runs: Sequence[Run]) -> str:
    """Write both forms under OUT. Returns the Markdown."""
    OUT.mkdir(exist_ok=True)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    about, used = machine(), versions() | rival_versions()
    whole = {"at": at, "machine": about, "versions": used, "runs": [asdict(run) for run in runs]}
    head = (
        f"{at}, {about['cores']} cores ({about['cpu']}), {about['memory_gb']} GB, Linux {about['kernel']}\n"
        + ", ".join(f"{name} {number}" for name, number in used.items())
    )
    text = "\n".join([head, "", *_measured(runs), *_ratios(runs)])
    name = f"rivals-{at[:19].replace(':', '')}"
    (OUT / f"{name}.json").write_text(json.dumps(whole, indent=2) + "\n")
    (OUT / f"{name}.md").write_text(text + "\n")
    return text


def _measured(runs: Sequence[Run]) -> Iterator[str]:
    yield f"Runs of each: {max(run.round for run in runs) + 1}. Minimum, **median**, maximum; else the median.\n"
    yield (
        "| | tokens | in flight | tokens/s | client CPU s per 1,000 | mongod | nginx | broker"
        " | client, peak MB |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    for name in dict.fromkeys(run.contender for run in runs):
        own = [run for run in runs if run.contender == name]
        broker = [run.broker_cpu for run in own if run.broker_cpu is not None]
        cells = (
            f"{own[0].tokens:,}",
            f"{own[0].in_flight:,}",
            _spread([run.tokens_per_second for run in own], digits=0),
            _spread([run.client_cpu for run in own], digits=3),
            f"{median(run.mongod_cpu for run in own):.3f}",
            f"{median(run.nginx_cpu for run in own):.3f}",
            f"{median(broker):.3f}" if broker else "",
            f"{median(run.peak_mb for run in own):.0f}",
        )
        yield f"| {name} | " + " | ".join(cells) + " |"


def _ratios(runs: Sequence[Run]) -> Iterator[str]:
    """Each run of a rival against ours of the same round, so that what the machine does meanwhile cancels out."""
    names = dict.fromkeys(run.contender for run in runs)
    for ours in (name for name in names if name.startswith(OURS)):
        yield f"\n{ours} against each, round by round:\n"
        yield "| | times the tokens/s | times less client CPU per 1,000 |\n|---|---:|---:|"
        yield from _against(ours, [name for name in names if name != ours], runs)


def _against(mine: str, others: Sequence[str], runs: Sequence[Run]) -> Iterator[str]:
    ours = {run.round: run for run in runs if run.contender == mine}
    for name in others:
        own = [run for run in runs if run.contender == name]

        def against(ratio: Callable[[Run, Run], float], own: Sequence[Run] = own) -> str:
            return _spread([ratio(ours[run.round], run) for run in own], digits=2)

        faster = against(lambda ours, run: ours.tokens_per_second / run.tokens_per_second)
        leaner = against(lambda ours, run: run.client_cpu / ours.client_cpu)
        yield f"| {name} | {faster} | {leaner} |"


def _spread(values: Sequence[float], *, digits: int) -> str:
    return f"{min(values):,.{digits}f} **{median(values):,.{digits}f}** {max(values):,.{digits}f}"
