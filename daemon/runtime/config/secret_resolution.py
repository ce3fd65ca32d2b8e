"""The secrets of one configuration: asked for before the tables are checked, and judged afterwards."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from daemon.runtime.config.problems import Findings, Problem, Waiting
from daemon.runtime.config.secret_chains import Chain
from daemon.runtime.config.secret_places import SecretPlace, Use, secret_places
from daemon.runtime.config.secret_reading import Answer, Found, FromMachine, NotThere, SecretReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Which source gave a secret. `kept`: why that is an earlier answer, if it is one."""

    secret: str
    source: str
    kept: str | None


@dataclass(slots=True)
class Resolution:
    """The answers for the places of one configuration."""

    reader: SecretReader
    places: Sequence[SecretPlace] = ()
    answers: dict[Chain, Answer] = field(default_factory=dict, repr=False)

    def ask(self, table: Mapping[str, Any], uses: Collection[Use], local: FromMachine) -> None:
        """Ask every source that `uses` need, all at the same time."""
        self.places = tuple(secret_places(table, uses))
        if not self.answers:
            self.answers = self.reader.read(dict.fromkeys((one.chain for one in self.places), local))

    def refuse(self, problems: Sequence[Problem], findings: Findings) -> bool:
        """Refuse the answers that all of `problems` are about, since they can't be the secrets. Returns whether the
        tables are to be checked once more without them.
        """
        of_place = {findings.where(one.place): one for one in self.places if one.chain.is_remote}
        if not problems or not all(problem.where in of_place for problem in problems):
            return False
        found = [(of_place[one.where].chain, one.what) for one in problems]
        refused = [(chain, self.answers.get(chain), what) for chain, what in found]
        if not all(isinstance(answer, Found) and answer.kept is None for _, answer, _ in refused):
            return False
        for chain, answer, what in refused:
            if isinstance(answer, Found):
                self.answers[chain] = self.reader.refuse(chain, answer, what)
        return True

    def waiting(self, findings: Findings, *, clients: bool) -> list[Waiting]:
        """Return the secrets that have not come: those of clients, or the others."""
        return [
            Waiting(where=findings.where(one.place), source=answer.source, why=answer.why, kind=answer.kind)
            for one in self.places
            if isinstance(answer := self.answers.get(one.chain), NotThere)
            and (one.use is Use.CLIENTS) is clients
        ]

    def lacking(self) -> dict[str, NotThere]:
        """Return the providers whose client's secret has not come."""
        return {
            one.place[1]: answer
            for one in self.places
            if one.use is Use.CLIENTS and isinstance(answer := self.answers.get(one.chain), NotThere)
        }

    def answered(self) -> list[Answered]:
        """Return which source gave each secret."""
        return [
            Answered(secret=".".join(one.place), source=answer.source, kept=answer.kept)
            for one in self.places
            if isinstance(answer := self.answers.get(one.chain), Found)
        ]

    def accept(self) -> None:
        """Note that the answers are in use."""
        self.reader.accept(self.answers)
        self.reader.forget_others(self.answers)
