"""The secrets of the clients while the daemon runs: read again if a provider refuses one, or if one has not come yet."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog
from daemon.domain.provider import Provider
from daemon.domain.providers import Providers
from daemon.runtime.config.client_sources import ClientSource
from daemon.runtime.config.problems import InvalidValue
from daemon.runtime.config.secret_reading import Answer, Faulty, Found, SecretReader

READ_EVERY = timedelta(minutes=5)  # at most, for a client that its provider refuses


class ClientSecrets:
    """Implements `refreshing.ports.Clients`. A changed client is put into `providers`, for all parts of the daemon."""

    def __init__(
        self,
        reader: SecretReader,
        *,
        providers: Providers,
        boot: Callable[[], timedelta],
        log: EventLog,
    ) -> None:
        self._reader = reader
        self._providers = providers
        self._boot = boot
        self._log = log
        self._sources: Mapping[str, ClientSource] = {}
        self._read_at: dict[str, timedelta] = {}
        self._reading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def configure(self, sources: Mapping[str, ClientSource]) -> None:
        """Use these from now on, by the providers' names."""
        self._sources = sources

    @property
    def lacking(self) -> list[str]:
        """The providers whose client's secret has not come."""
        return [name for name, one in self._providers.items() if one.lacking is not None]

    async def read_again(self, refused: Provider) -> Provider | None:
        """Read the client's secret again, at most every five minutes. Returns the provider with another client than
        the refused one, or None. Never fails.
        """
        name = refused.name
        async with self._reading[name]:
            if (found := self._another_than(refused)) is not None:
                return found  # another token's request, or a reload, has found it
            current = self._providers.get(name)
            last = self._read_at.get(name)
            too_soon = last is not None and self._boot() - last < READ_EVERY
            if current is None or name not in self._sources or too_soon:
                return None
            self._read_at[name] = self._boot()
            await self._read(current)
            found = self._another_than(refused)
            if found is not None:
                self._log.log(log_lines.CLIENT_CHANGED, provider=name)
            return found

    def _another_than(self, refused: Provider) -> Provider | None:
        """Return the provider as it is in use, if its client is another one."""
        current = self._providers.get(refused.name)
        if current is None or current.lacking is not None or _client(current) == _client(refused):
            return None
        return current

    async def read_missing(self) -> None:
        """Read the secrets that have not come, all at the same time."""
        await asyncio.gather(*(self._read_if_missing(name) for name in self.lacking))

    async def _read_if_missing(self, name: str) -> None:
        async with self._reading[name]:
            provider = self._providers.get(name)
            if provider is not None and provider.lacking is not None and name in self._sources:
                await self._read(provider)

    async def _read(self, provider: Provider) -> None:
        """Read the secret, and use it if it has come."""
        source = self._sources[provider.name]
        answers = await asyncio.to_thread(self._reader.read, {source.chain: source.local})
        answer = answers[source.chain]
        fresh, why = _applied(source, provider, answer)
        place = f"providers.{provider.name}.{source.key}"
        if self._providers.get(provider.name) != provider or self._sources.get(provider.name) != source:
            return  # a reload was faster
        if fresh is None:
            before = provider.lacking
            if before is not None and before != why:
                self._use(replace(provider, lacking=why))  # for the probes
            if before is None or before != why:
                line = log_lines.SECRET_KEPT if before is None else log_lines.SECRET_AWAY
                self._log.log(line, place=place, source=source.chain.names, message=why)
            return
        self._reader.accept(answers)
        if isinstance(answer, Found) and provider.lacking is not None:
            self._log.log(log_lines.SECRET_ANSWERED, place=place, source=answer.source)
        if fresh != provider:
            self._use(fresh)

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
