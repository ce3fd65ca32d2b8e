"""What compare_rivals.py measured, as tables for people."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from support.report import spread, table

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


def tables(runs: Sequence[Run]) -> Iterator[str]:
    yield f"Runs of each: {max(run.round for run in runs) + 1}. Minimum, **median**, maximum; else the median.\n"
    head = (
        "",
        "tokens",
        "in flight",
        "tokens/s",
        "client CPU s per 1,000",
        "mongod",
        "nginx",
        "broker",
        "client, peak MB",
    )
    names = dict.fromkeys(run.contender for run in runs)
    yield from table(head, ([name, *_measured(name, runs)] for name in names))
    yield from _ratios(runs)


def _measured(name: str, runs: Sequence[Run]) -> Iterator[str]:
    own = [run for run in runs if run.contender == name]
    broker = [run.broker_cpu for run in own if run.broker_cpu is not None]
    yield f"{own[0].tokens:,}"
    yield f"{own[0].in_flight:,}"
    yield spread([run.tokens_per_second for run in own], digits=0)
    yield spread([run.client_cpu for run in own], digits=3)
    yield f"{median(run.mongod_cpu for run in own):.3f}"
    yield f"{median(run.nginx_cpu for run in own):.3f}"
    yield f"{median(broker):.3f}" if broker else ""
    yield f"{median(run.peak_mb for run in own):.0f}"


def _ratios(runs: Sequence[Run]) -> Iterator[str]:
    """Each run of a rival against ours of the same round, so that what the machine does meanwhile cancels out."""
    names = dict.fromkeys(run.contender for run in runs)
    for ours in (name for name in names if name.startswith(OURS)):
        yield f"\n{ours} against each, round by round:\n"
        head = "", "times the tokens/s", "times less client CPU per 1,000"
        yield from table(head, _against(ours, [name for name in names if name != ours], runs))


def _against(mine: str, others: Sequence[str], runs: Sequence[Run]) -> Iterator[list[str]]:
    ours = {run.round: run for run in runs if run.contender == mine}
    for name in others:
        own = [run for run in runs if run.contender == name]

        def against(ratio: Callable[[Run, Run], float], own: Sequence[Run] = own) -> str:
            return spread([ratio(ours[run.round], run) for run in own], digits=2)

        faster = against(lambda ours, run: ours.tokens_per_second / run.tokens_per_second)
        leaner = against(lambda ours, run: run.client_cpu / ours.client_cpu)
        yield [name, faster, leaner]
