"""The reading of secrets that stand outside this machine's files: all of them at the same time, each within a limit.

A source that fails costs nothing that was there before: the last value that was in use stays in use.
"""

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Literal

from daemon.adapters.secrets.errors import SecretAway, SecretMissing, SecretUnusable
from daemon.domain.secret import Secret
from daemon.domain.secret_reference import (
    AwsParameter,
    AwsSecret,
    AzureSecret,
    Command,
    GcpSecret,
    Reference,
    VaultSecret,
    WrappedKey,
)
from daemon.runtime.config.problems import InvalidValue
from daemon.runtime.config.secret_chains import Chain, Local, Step, name_of

LIMIT = timedelta(seconds=10)  # for a cloud's answer; a command has a limit of its own
LARGEST = 64 * 1024  # characters
_TOGETHER = 64
_MODULES: Mapping[type, tuple[str, str]] = {  # the module, and the extra that brings its library
    AwsSecret: ("aws", "aws"),
    AwsParameter: ("aws", "aws"),
    VaultSecret: ("vault", "vault"),
    GcpSecret: ("gcp", "gcp"),
    AzureSecret: ("azure", "azure"),
    WrappedKey: ("kms", "aws"),
    Command: ("command", ""),
}


class Absent(InvalidValue):
    """A source on this machine does not have the secret, so the next one of a list is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The text of a secret, and the source that answered. `kept`: why that is an earlier answer, if it is one."""

    text: Secret
    source: str
    kept: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotThere:
    """No source has answered with the secret. `why` is a sentence without a value."""

    source: str
    why: str
    kind: Literal["away", "missing", "unusable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Faulty:
    """A source on this machine is set up wrongly, and only an operator can correct that."""

    what: str
    do: str


Answer = Found | NotThere | Faulty
FromMachine = Callable[[Local], str]  # raises InvalidValue, or Absent
Ask = Callable[[Reference], Awaitable[str]]


async def ask(reference: Reference) -> str:
    """Return the text at `reference`. Raises SecretMissing, SecretAway, SecretUnusable, InvalidValue."""
    name, extra = _MODULES[type(reference)]
    limit = None if isinstance(reference, Command) else LIMIT.total_seconds()
    try:
        async with asyncio.timeout(limit):
            module = importlib.import_module(f"daemon.adapters.secrets.{name}")
            return str(await module.read(reference))
    except ImportError:
        raise InvalidValue(
            f"this source needs the package refreshd[{extra}], which is not installed",
            "Install the packages of the extra: docs/secrets-clouds.md.",
        ) from None
    except TimeoutError:
        raise SecretAway(f"it did not answer within {LIMIT.total_seconds():g} s") from None


@dataclass(slots=True)
class SecretReader:
    """Reads secrets, and keeps those that were in use. One for the life of a process."""

    ask: Ask = ask
    up: dict[str, bool] = field(default_factory=dict)  # of each source that was asked: whether it answered
    _used: dict[Chain, Found] = field(default_factory=dict, repr=False)

    def read(self, chains: Mapping[Chain, FromMachine]) -> dict[Chain, Answer]:
        """Return the answer of each chain. Call it in any thread: it runs a loop of its own."""
        if not chains:
            return {}
        with ThreadPoolExecutor(1, thread_name_prefix="secrets") as own:
            found = own.submit(asyncio.run, self._read(chains)).result()
        return {chain: self._or_kept(chain, answer) for chain, answer in found.items()}

    def accept(self, answers: Mapping[Chain, Answer]) -> None:
        """Note that these answers are in use, so that they stay if their source is away later."""
        for chain, answer in answers.items():
            if isinstance(answer, Found):
                self._used[chain] = replace(answer, kept=None)

    def refuse(self, chain: Chain, answer: Found, why: str) -> Answer:
        """Return what is used in the place of an answer that can't be the secret."""
        self.up = self.up | {answer.source: False}
        return self._or_kept(chain, NotThere(source=answer.source, why=f"its answer {why}", kind="unusable"))

    def forget_others(self, chains: Iterable[Chain]) -> None:
        """Drop what belongs to sources that are no longer configured."""
        chains = set(chains)
        self._used = {chain: found for chain, found in self._used.items() if chain in chains}
        names = {name_of(step.source) for chain in chains for step in chain.steps}
        self.up = {name: up for name, up in self.up.items() if name in names}

    def _or_kept(self, chain: Chain, answer: Answer) -> Answer:
        if isinstance(answer, NotThere) and (used := self._used.get(chain)) is not None:
            return replace(used, kept=answer.why)
        return answer

    async def _read(self, chains: Mapping[Chain, FromMachine]) -> dict[Chain, Answer]:
        asking = _Asking(self.ask)
        answers = await asyncio.gather(*(asking.answer(chain, local) for chain, local in chains.items()))
        self.up = self.up | {name: all(each) for name, each in asking.up.items()}  # a scrape may read it now
        return dict(zip(chains, answers, strict=True))


class _Asking:
    """One reading of several chains. Each reference is asked once, however many chains have it."""

    def __init__(self, asked: Ask) -> None:
        self.up: dict[str, list[bool]] = {}
        self._ask = asked
        self._tasks: dict[Reference, asyncio.Task[str]] = {}
        self._together = asyncio.Semaphore(_TOGETHER)

    async def answer(self, chain: Chain, local: FromMachine) -> Answer:
        """Ask the sources of `chain` in turn. If none has the secret, one that is away is the reason."""
        away: NotThere | None = None
        answer: Answer = NotThere(source="", why="it has no source", kind="missing")
        for number, step in enumerate(chain.steps, start=1):
            answer = await self._step(step, local, last=number == len(chain.steps))
            if not isinstance(answer, NotThere) or answer.kind == "unusable":
                return answer
            if answer.kind == "away":
                away = away or answer
                if not step.always:
                    return away
        if away is None and isinstance(answer, NotThere) and not chain.is_remote:
            return Faulty(what=answer.why, do="Set it, or supply the secret in another way.")
        return away or answer

    async def _step(self, step: Step, local: FromMachine, *, last: bool) -> Answer:
        source, name = step.source, name_of(step.source)
        try:
            if isinstance(source, Local):
                return Found(text=Secret(await asyncio.to_thread(local, source)), source=name)
            text = await self._once(source)
        except SecretMissing as why:
            self._note(name, up=not last)
            return NotThere(source=name, why=str(why), kind="missing")
        except SecretAway as why:
            self._note(name, up=False)
            return NotThere(source=name, why=str(why), kind="away")
        except SecretUnusable as why:
            self._note(name, up=False)
            return NotThere(source=name, why=str(why), kind="unusable")
        except Absent as why:
            return NotThere(source=name, why=why.what, kind="missing")
        except InvalidValue as why:
            return Faulty(what=why.what, do=why.do)
        except Exception as bug:  # noqa: BLE001  a client library's failure must not end the daemon, nor print a value
            self._note(name, up=False)
            return NotThere(source=name, why=f"unexpected: {type(bug).__name__}", kind="away")
        self._note(name, up=True)
        return Found(text=Secret(text), source=name)

    async def _once(self, reference: Reference) -> str:
        if reference not in self._tasks:
            self._tasks[reference] = asyncio.create_task(self._bounded(reference))
        return await self._tasks[reference]

    async def _bounded(self, reference: Reference) -> str:
        async with self._together:
            text = await self._ask(reference)
        if not text.strip():
            raise SecretUnusable("its answer is empty")
        if len(text) > LARGEST:
            raise SecretUnusable(f"its answer is longer than {LARGEST // 1024} KB")
        if "\0" in text:
            raise SecretUnusable("its answer is binary")
        return text

    def _note(self, name: str, *, up: bool) -> None:
        self.up.setdefault(name, []).append(up)
