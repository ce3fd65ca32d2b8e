"""The sections of the configuration as `refreshd serve` reads them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, ClassVar

from daemon.domain.provider import Rate
from daemon.runtime.config.access_values import (
    base_url,
    offline_span,
    page_with_id,
    readers_of,
    return_url,
    writers_of,
)
from daemon.runtime.config.fields import (
    ARRAY,
    STRICT,
    Duration,
    Flag,
    Host,
    Read,
    Span,
    Text,
    known_keys,
    whole,
)
from daemon.runtime.config.issuers import network
from daemon.runtime.config.problems import Findings
from daemon.runtime.config.providers.definition_table import DefinitionTable
from daemon.runtime.config.providers.life_keys import rate_of
from daemon.runtime.config.providers.provider_settings import AllowedHost, ProviderTable
from daemon.runtime.config.secret_sources import BearerToken, SecretText
from daemon.runtime.config.settings import LOOPBACK, SHORTEST_BEARER

SHORTEST_RETENTION = timedelta(days=1)
DOOR_KEYS = ("readers", "writer")
USUAL_RATE = Rate(count=600, per=timedelta(minutes=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsTable:
    __pydantic_config__: ClassVar = STRICT

    cert: Text
    key: SecretText


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessTable:
    __pydantic_config__: ClassVar = STRICT

    host: Host = "127.0.0.1"
    port: Annotated[int, Read(whole(0, 65_535))] = 9465  # 0: any free one
    socket: Text | None = None
    tls: TlsTable | None = None
    trusted_proxies: Annotated[tuple[Annotated[IPv4Network | IPv6Network, Read(network)], ...], ARRAY] = ()
    public_url: Annotated[str, Read(base_url)] | None = None
    return_urls: Annotated[tuple[Annotated[str, Read(return_url)], ...], ARRAY] = ()
    unbound_connect: Flag = False
    reconnect_url: Annotated[str, Read(page_with_id)] | None = None
    max_wait: Duration = timedelta(seconds=30)
    fresh_for: Duration = timedelta(seconds=60)
    offline_for: Annotated[timedelta, Read(offline_span)] = timedelta(minutes=5)
    rate: Annotated[Rate, Read(rate_of)] = USUAL_RATE
    rate_per_caller: Annotated[Rate, Read(rate_of)] | None = None
    audit_reads_retention: Span = timedelta(days=30)
    admin_port: Annotated[int, Read(whole(0, 65_535))] | None = None
    bearer_token: BearerToken | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedProviderTable(DefinitionTable):
    """The keys of a provider that the access service reads: its definition, the client's id for the page on which owners
    consent, and the hosts to which variables may lead.
    """

    client_id: Text | None = None
    allowed_hosts: Annotated[frozenset[AllowedHost], ARRAY] = frozenset()


CLIENT_KEYS = frozenset(known_keys(ProviderTable)) - frozenset(
    known_keys(ServedProviderTable)
)  # not read here


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorKeysTable:
    """`[keys]` without a ring."""

    __pydantic_config__: ClassVar = STRICT

    readers: Annotated[Mapping[str, bytes], Read(readers_of)]
    writer: Annotated[Mapping[str, Any], Read(writers_of)] | None = None
    active: Text | None = None


RING_KEYS = ("ring", "installation", "writers", "max_age")  # what [keys] says of a ring


def check_listener(access: AccessTable | None, findings: Findings, *, with_tls: bool) -> None:
    if access is None:
        return
    if access.socket is None and not LOOPBACK.fullmatch(access.host):
        if not with_tls and not access.trusted_proxies:
            findings.add(
                ("access", "host"),
                "is not a loopback address, so other machines would send access keys in plain text",
                "Set access.tls, or access.trusted_proxies if a proxy with TLS stands before it.",
            )
        if access.bearer_token and len(access.bearer_token.reveal()) < SHORTEST_BEARER:
            findings.add(
                ("access", "bearer_token"),
                f"has fewer than {SHORTEST_BEARER} characters, and access.host is not a loopback address",
                "Make one with `openssl rand -base64 24`.",
            )
    if access.audit_reads_retention < SHORTEST_RETENTION:
        findings.add(("access", "audit_reads_retention"), "is shorter than a day", 'Write at least "1d".')
