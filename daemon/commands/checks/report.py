"""What `refreshd check` has tried, with the outcome of each trial."""

import sys
from dataclasses import dataclass, field
from enum import StrEnum

from daemon.commands.support.failure import Exit
from daemon.commands.support.output import Output
from daemon.runtime.config.problems import Problem

_MARKS = {"ok": "✓", "problem": "✗", "warning": "!", "not tried": "-"}
_STYLES = {"ok": "green", "problem": "bold red", "warning": "yellow", "not tried": "dim"}


class Outcome(StrEnum):
    """How a trial ended. A problem keeps the daemon from its work or its promise, a warning is worth knowing."""

    OK = "ok"
    PROBLEM = "problem"
    WARNING = "warning"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One thing that was tried. `what` is its result in words; `do` is what to do about it, if anything."""

    where: str
    outcome: Outcome
    what: str
    do: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f". {self.do}" if self.do else "")


@dataclass(slots=True, kw_only=True)
class Report:
    """All trials, in the order in which they were made."""

    trials: list[Trial] = field(default_factory=list)
    code: Exit = Exit.DONE

    def passed(self, where: str, what: str) -> None:
        self.trials.append(Trial(where=where, outcome=Outcome.OK, what=what))

    def skipped(self, where: str, why: str) -> None:
        self.trials.append(Trial(where=where, outcome=Outcome.NOT_TRIED, what=why))

    def warn(self, where: str, what: str, do: str) -> None:
        self.trials.append(Trial(where=where, outcome=Outcome.WARNING, what=what, do=do))

    def problem(self, where: str, what: str, do: str, *, code: Exit = Exit.FAILED) -> None:
        """The gravest code takes precedence: a wrong configuration, then a store that is away."""
        self.trials.append(Trial(where=where, outcome=Outcome.PROBLEM, what=what, do=do))
        self.code = max(self.code, code)

    def invalid(self, problems: tuple[Problem, ...]) -> None:
        """Take over what is wrong with the settings."""
        for one in problems:
            self.problem(one.where, one.what, one.do, code=Exit.CONFIG)

    def having(self, outcome: Outcome) -> list[Trial]:
        return [trial for trial in self.trials if trial.outcome is outcome]


def show(output: Output, report: Report) -> None:
    """One JSON object for programs; for people a line for each trial, and a last one that sums up."""
    problems, warnings = report.having(Outcome.PROBLEM), report.having(Outcome.WARNING)
    if output.as_json:
        output.record(
            {
                "ok": not problems,
                "problems": [_record(trial) for trial in problems],
                "warnings": [_record(trial) for trial in warnings],
                "checks": [
                    {"where": trial.where, "result": trial.outcome.value, "what": trial.what}
                    for trial in report.trials
                ],
            }
        )
        return
    for trial in report.trials:
        output.marked(_mark(trial.outcome), str(trial), style=_STYLES[trial.outcome])
    output.result({}, _sum(len(problems), len(warnings)))


def _record(trial: Trial) -> dict[str, str]:
    return {"where": trial.where, "what": trial.what, "do": trial.do}


def _mark(outcome: Outcome) -> str:
    """A sign on a terminal that can show it, else a word."""
    signs = sys.stdout.isatty() and (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return _MARKS[outcome] if signs else f"{outcome}:"


def _sum(problems: int, warnings: int) -> str:
    if not problems and not warnings:
        return "Everything that was checked is in order."
    counts = [
        f"{count} {word if count == 1 else word + 's'}"
        for count, word in ((problems, "problem"), (warnings, "warning"))
        if count
    ]
    return f"{' and '.join(counts)}; everything else that was checked is in order."
