"""Problems of the configuration: all of them in one report, each with its place and its remedy.

No sentence here ever quotes a value, because a secret in the wrong place would be printed with it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # they take as long to import as everything else that the list of commands needs
    from daemon.runtime.config.sections import LogSettings
    from daemon.runtime.config.settings import Settings

LogFormat = Literal["json", "console", "auto"]
Place = tuple[str, ...]  # the path of a key: ("refresh", "lease")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem: the place, the problem and the remedy."""

    where: str
    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.do}"


class SettingsInvalid(Exception):
    """The configuration can't be used.

    `problems` holds all problems; `log_format` is the configured format of the log, if it can be read.
    """

    def __init__(self, problems: Sequence[Problem], *, log_format: LogFormat = "auto") -> None:
        self.problems = tuple(problems)
        self.log_format = log_format
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A secret that has not come. `where`: its place in the configuration; `why`: a sentence without a value."""

    where: str
    source: str
    why: str
    kind: Literal["away", "missing", "unusable"]

    @property
    def what(self) -> str:
        return f"{self.source} has not given the secret: {self.why}"

    @property
    def do(self) -> str:
        match self.kind:
            case "away":
                return "Try again when the source is back; docs/secrets.md has the rights that it must grant."
            case "missing":
                return "Create the secret there, or correct its name."
            case "unusable":
                return "Correct what is stored there."

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.do}"


class SecretsAway(Exception):
    """Secrets that the process uses have not come, and nothing else is wrong.

    In `settings`, those of the daemon, an empty text is in the place of each.
    """

    def __init__(
        self, waiting: Sequence[Waiting], *, log: "LogSettings", settings: "Settings | None" = None
    ) -> None:
        self.waiting, self.log, self.settings = tuple(waiting), log, settings
        super().__init__("\n".join(map(str, waiting)))


class InvalidValue(ValueError):
    """A value is refused. The code that raises it has the reason, the code that catches it has the place."""

    def __init__(self, what: str, do: str) -> None:
        self.what = what
        self.do = do
        super().__init__(what)


class Findings:
    """Collects problems and names their places: the file's key, or the variable that has overridden it.

    Without a file, `variable_for` names the variable that would set the key.
    """

    def __init__(
        self,
        file: str | None,
        *,
        variable_for: Callable[[Place], str] = ".".join,
        written: Mapping[str, object] | None = None,
        origins: Mapping[Place, str] | None = None,
    ) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._variable_for = variable_for
        self._written = written or {}
        self._origins = origins or {}
        self._broken: set[Place] = set()

    def add(self, place: Place, what: str, do: str) -> None:
        self._broken.add(place)
        self.problems.append(Problem(where=self.where(place), what=what, do=do))

    def broken(self, *places: Place) -> bool:
        """Return whether there is a problem at, under or around one of `places`, so that its value is
        unusable.
        """
        return any(
            bad[: len(place)] == place or place[: len(bad)] == bad for place in places for bad in self._broken
        )

    def where(self, place: Place) -> str:
        for length in range(len(place), 0, -1):
            if origin := self._origins.get(place[:length]):
                return origin
        if not self._is_written(place):  # a whole table may stand in the environment alone
            for path, origin in self._origins.items():
                if path[: len(place)] == place:
                    return origin
        if self._file is None:
            return f"environment (there is no configuration file): {self._variable_for(place)}"
        return f"{self._file}: {'.'.join(place)}" if place else self._file

    def _is_written(self, place: Place) -> bool:
        table: object = self._written
        for step in place:
            if not isinstance(table, Mapping) or step not in table:
                return False
            table = table[step]
        return True
