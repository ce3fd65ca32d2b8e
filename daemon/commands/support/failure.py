"""How a command ends: the exit codes (those of sysexits, if it has one), and every expected failure as sentences for people."""

import json
from collections.abc import Sequence
from enum import IntEnum

from daemon.commands.support.streams import OutputUnwritable
from daemon.domain.claim import StoreLost
from daemon.domain.secret import masked
from daemon.runtime.config.problems import SecretsAway, SettingsInvalid


class Exit(IntEnum):
    """0 is a success; other programs rely on each of these."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 69
    HELD = 75  # a port or a directory that another process has
    CONFIG = 78


class Failed(Exception):
    """The command can't do its work. The text says what is wrong, where, and what to do. It holds no secret."""

    def __init__(self, text: str, code: Exit = Exit.FAILED) -> None:
        self.code = code
        super().__init__(text)


def explained(error: Exception) -> tuple[Exit, list[str]] | None:
    """The exit code and the sentences of an expected failure; None: it is a bug."""
    match error:
        case Failed():
            return error.code, [str(error)]
        case SettingsInvalid():
            return Exit.CONFIG, [str(problem) for problem in error.problems]
        case SecretsAway():
            return code_of(error), [str(one) for one in error.waiting]
        case StoreLost():
            return Exit.UNAVAILABLE, [f"{error}. `refreshd check` shows what works and what doesn't"]
        case MemoryError():
            what = "there is not enough memory for this"
            return Exit.FAILED, [f"{what}. Give refreshd more, or the input in smaller parts"]
        case OutputUnwritable():
            why = f"standard output: {error.strerror}"
            return Exit.FAILED, [f"{why}. The command may have done its work: look before you run it again"]
        case _:
            return None


def code_of(away: SecretsAway) -> Exit:
    """A source that may come back is unavailable; one that answers without the secret has to be corrected."""
    back = any(one.kind == "away" for one in away.waiting)
    return Exit.UNAVAILABLE if back else Exit.CONFIG


def in_parts(error: Exception, sentences: Sequence[str]) -> list[dict[str, str | None]]:
    """What is wrong, where, and what to do, for programs."""
    if isinstance(error, SettingsInvalid):
        return [{"what": each.what, "where": each.where, "do": each.do} for each in error.problems]
    if isinstance(error, SecretsAway):
        return [{"what": each.what, "where": each.where, "do": each.do} for each in error.waiting]
    halves = (
        sentence.partition(". ") for sentence in sentences
    )  # every sentence for people ends in what to do
    return [{"what": what, "where": None, "do": do or None} for what, _, do in halves]


def in_json(error: Exception, code: int, sentences: Sequence[str]) -> str:
    """A failure for programs: the first problem, and all of them if there are several."""
    parts = in_parts(error, sentences)
    several: dict[str, object] = {"problems": parts} if len(parts) > 1 else {}
    return json.dumps({"error": {**parts[0], "code": int(code), **several}})


def unexpected(error: Exception) -> str:
    """Describe a bug in one line. Only --debug shows its place."""
    return f"internal error: {type(error).__name__}: {masked(str(error))}. Run the command again with --debug, and report the trace"


def no_such_token(name: str) -> Failed:
    return Failed(
        f"{name}: no such token is stored. `refreshd list` shows the stored IDs, which are PROVIDER:ACCOUNT"
    )
