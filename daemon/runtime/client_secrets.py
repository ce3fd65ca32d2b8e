"""The secrets of the clients while the daemon runs: read again while a provider refuses one, or if one has not come yet."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog
from daemon.domain.provider import Provider
from daemon.domain.providers import Providers
from daemon.domain.refused_clients import RefusedClients
from daemon.runtime.config.client_sources import ClientSource
from daemon.runtime.config.problems import InvalidValue
from daemon.runtime.config.secret_chains import Source
from daemon.runtime.config.secret_reading import Answer, Faulty, Found, SecretReader

Later = Callable[[timedelta, Callable[[], Awaitable[None]]], None]


@dataclass(slots=True)
class _Place:
    """The place of one or more clients' secrets. One reading at a time."""

    clients: RefusedClients = field(default_factory=RefusedClients)
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class ClientSecrets:
    """Implements `refreshing.ports.Clients`. A changed client is put into `providers`, for all parts of the daemon.

    `later` runs a job after a while; of two that wait, the earlier one remains. `changed` is called when another secret is
    in use.
    """

    def __init__(
        self,
        reader: SecretReader,
        *,
        providers: Providers,
        later: Later,
        changed: Callable[[], None],
        boot: Callable[[], timedelta],
        log: EventLog,
    ) -> None:
        self._reader = reader
        self._providers = providers
        self._later = later
        self._changed = changed
        self._boot = boot
        self._log = log
        self._sources: Mapping[str, ClientSource] = {}
        self._places: dict[tuple[Source, ...], _Place] = {}
        self._place: dict[str, _Place] = {}  # of each provider that has a source
        providers.follow(self._arrange)

    def configure(self, sources: Mapping[str, ClientSource]) -> None:
        """Use these from now on, by the providers' names."""
        self._sources = sources
        self._arrange(self._providers)

    def _arrange(self, providers: Mapping[str, Provider]) -> None:
        used = {name: source.chain.places for name, source in self._sources.items() if name in providers}
        self._places = {key: self._places.get(key) or _Place() for key in used.values()}
        former, self._place = self._place, {name: self._places[key] for name, key in used.items()}
        for name, place in former.items():
            if self._place.get(name) is not place:
                place.clients.accept(name)  # nothing is read there for it any more

    @property
    def lacking(self) -> list[str]:
        """The providers whose client's secret has not come."""
        return [name for name, one in self._providers.items() if one.lacking is not None]

    async def read_again(self, refused: Provider) -> Provider | None:
        """Read the refused client's secret again, unless it was read too lately; then it is read later. Returns the
        provider with another client than the refused one, or None. Never fails.
        """
        place = self._place.get(refused.name)
        if place is None:
            return self._another_than(refused)
        async with place.reading:
            if (found := self._another_than(refused)) is not None:
                return found  # another token's request, a later reading, or a reload has found it
            place.clients.refuse(refused.name, now=self._boot())
            if not place.clients.wait(now=self._boot()):
                await self._read_refused(place)
        self._plan()
        return self._another_than(refused)

    def accepted(self, provider: str) -> None:
        """Note that `provider` accepts its client."""
        if (place := self._place.get(provider)) is not None:
            place.clients.accept(provider)

    def hurry(self, provider: str) -> None:
        """Read a refused client's secret soon, since the pause of `provider` was ended elsewhere."""
        if (place := self._place.get(provider)) is not None:
            place.clients.hurry(provider)
            self._plan()

    async def read_missing(self) -> None:
        """Read the secrets that have not come, all at the same time."""
        await asyncio.gather(*(self._read_missing_of(place) for place in list(self._places.values())))

    def _another_than(self, refused: Provider) -> Provider | None:
        """Return the provider as it is in use, if its client is another one."""
        current = self._providers.get(refused.name)
        if current is None or current.lacking is not None or _client(current) == _client(refused):
            return None
        return current

    def _plan(self) -> None:
        """Plan the next reading for refused clients, if there are any. A running one plans the next at its end."""
        now = self._boot()
        if waits := [place.clients.wait(now=now) for place in self._refused()]:
            self._later(min(waits), self._read_due)

    def _refused(self) -> list[_Place]:
        """Return the places with refused clients that are not being read."""
        now = self._boot()
        return [
            one for one in self._places.values() if one.clients.refused(now=now) and not one.reading.locked()
        ]

    async def _read_due(self) -> None:
        """Read the places of refused clients whose pause is over, all at the same time."""
        now = self._boot()
        due = [place for place in self._refused() if not place.clients.wait(now=now)]
        if not due:
            self._plan()
        await asyncio.gather(*(self._read_due_of(place) for place in due))

    async def _read_due_of(self, place: _Place) -> None:
        async with place.reading:
            self._plan()  # the others don't wait for one that hangs
            await self._read_refused(place)
        self._plan()

    async def _read_refused(self, place: _Place) -> None:
        """Read the secrets of the refused clients of `place`."""
        try:
            await self._read(
                one
                for name in place.clients.refused(now=self._boot())
                if (one := self._providers.get(name)) is not None and self._place.get(name) is place
            )
        finally:
            place.clients.read(now=self._boot())

    async def _read_missing_of(self, place: _Place) -> None:
        async with place.reading:
            await self._read(
                one
                for name, one in self._providers.items()
                if one.lacking is not None and self._place.get(name) is place
            )

    async def _read(self, providers: Iterable[Provider]) -> None:
        """Read these clients' secrets together, and use those that have come."""
        asked = [(one, self._sources[one.name]) for one in providers]
        chains = {source.chain: source.local for _, source in asked}
        answers = await asyncio.to_thread(self._reader.read, chains)
        for provider, source in asked:
            if self._providers.get(provider.name) == provider and self._sources.get(provider.name) == source:
                self._take(provider, source, answers[source.chain])  # else a reload was faster

    def _take(self, provider: Provider, source: ClientSource, answer: Answer) -> None:
        """Use the answer if it is a secret, else keep what there was."""
        fresh, why = _applied(source, provider, answer)
        place, before = f"providers.{provider.name}.{source.key}", provider.lacking
        if fresh is None:
            if before is not None and before != why:
                self._use(replace(provider, lacking=why))  # for the probes
            if before is None or before != why:
                line = log_lines.SECRET_KEPT if before is None else log_lines.SECRET_AWAY
                self._log.log(line, place=place, source=source.chain.names, message=why)
            return
        self._reader.accept({source.chain: answer})
        if isinstance(answer, Found) and before is not None:
            self._log.log(log_lines.SECRET_ANSWERED, place=place, source=answer.source)
        if fresh != provider:
            self._use(fresh)
            self._changed()
            if before is None:
                self._log.log(log_lines.CLIENT_CHANGED, provider=provider.name)

    def _use(self, changed: Provider) -> None:
        self._providers.replace({**self._providers, changed.name: changed})


def _applied(source: ClientSource, provider: Provider, answer: Answer) -> tuple[Provider | None, str]:
    """Return the provider with the answer in use, or None and the reason."""
    match answer:
        case Found(text=text, source=name, kept=None):
            try:
                return source.applied(provider, text), ""
            except InvalidValue as why:
                return None, f"{name}: its answer {why.what}"
        case Found(source=name, kept=kept):
            return None, f"{name}: {kept}"
        case Faulty(what=what):
            return None, what
        case _:
            return None, f"{answer.source}: {answer.why}"


def _client(provider: Provider) -> tuple[object, ...]:
    """Return what a provider recognizes the client by."""
    return provider.client_id, provider.client_secret, provider.client_fingerprint
