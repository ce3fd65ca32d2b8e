"""The sections of the configuration: the keys of each and their defaults.

They are plain dataclasses; an annotation names the reader of a raw value. Rules across keys are in
`settings`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from daemon.adapters.keyring import KeyRing
from daemon.domain.key_use import KeyUse
from daemon.domain.secret import Secret
from daemon.runtime.config.fields import (
    ARRAY,
    STRICT,
    Context,
    Duration,
    Flag,
    Host,
    Read,
    Span,
    Text,
    one_of,
    whole,
)
from daemon.runtime.config.problems import InvalidValue
from daemon.runtime.config.ring import RingKeyEntry
from daemon.runtime.config.secret_sources import BearerToken, KeyId, StoreUri, secret
from daemon.runtime.config.wrapped_keys import INSTALLATION, installation_name

_DATABASE = re.compile(r"[A-Za-z0-9_-]{1,63}")
_COLLECTION = re.compile(r"(?!system\.)[A-Za-z_][A-Za-z0-9_.-]{0,119}")
_VISIBLE = re.compile(r"[!-~]+")


class LogFormat(StrEnum):
    JSON = "json"
    CONSOLE = "console"
    AUTO = "auto"  # console on a terminal


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _name(allowed: re.Pattern[str]) -> Callable[[object], str]:
    def read(value: object) -> str:
        if not isinstance(value, str) or not allowed.fullmatch(value):
            raise InvalidValue("is not a valid MongoDB name", "Use letters, digits, '_' and '-'.")
        return value

    return read


def proxy_url(value: object, info: Context) -> Secret:
    """Read a proxy's URL. It is a secret, since it may hold a password."""
    url = secret(value, info)
    if not url:
        return url
    try:
        parts = urlsplit(url.reveal())
        plain = bool(parts.hostname) and parts.port != 0 and bool(_VISIBLE.fullmatch(url.reveal()))
    except ValueError:
        plain = False
    if (
        not plain
        or parts.scheme not in ("http", "https")
        or parts.path.strip("/")
        or parts.query
        or parts.fragment
    ):
        raise InvalidValue(
            "is not a proxy's URL", 'Write it like "http://proxy.example.com:3128", without a path.'
        )
    if parts.netloc.count("@") > 1:
        raise InvalidValue("contains a reserved character", "Percent-encode the user name and the password.")
    return url


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    __pydantic_config__: ClassVar = STRICT

    uri: StoreUri
    database: Annotated[str, Read(_name(_DATABASE))] = "refreshd"
    collection: Annotated[str, Read(_name(_COLLECTION))] = "tokens"
    max_clock_skew: Span = timedelta(seconds=30)

    @property
    def embedded(self) -> bool:
        """Return whether refreshd runs its own MongoDB; `uri` is then the word instead of a URI."""
        return not isinstance(self.uri, Secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateTable:
    __pydantic_config__: ClassVar = STRICT

    dir: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshSettings:
    __pydantic_config__: ClassVar = STRICT

    window: Span = timedelta(minutes=5)
    jitter: Duration = timedelta(seconds=30)
    sweep_every: Span = timedelta(seconds=15)
    concurrency: Annotated[int, Read(whole(1, 100_000))] = 256
    request_timeout: Span = timedelta(seconds=30)
    lease: Span = timedelta(seconds=90)
    adopt_after: Duration = timedelta(minutes=15)
    drain: Span = timedelta(seconds=45)
    proxy: Annotated[Secret, Read(proxy_url)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    __pydantic_config__: ClassVar = STRICT

    active: Text
    ring: dict[KeyId, RingKeyEntry] = field(repr=False)
    writers: Annotated[list[KeyId], ARRAY] | None = None  # None: the keys that may seal
    max_age: Span = timedelta(days=90)
    installation: Annotated[str, Read(installation_name)] = INSTALLATION  # for which KMS unwraps keys

    @property
    def key_ring(self) -> KeyRing:
        """Return the ring. `active` must be one of its keys."""
        only_open = {name for name, one in self.ring.items() if one.use is KeyUse.OPEN}
        writers = self.ring.keys() - only_open if self.writers is None else self.writers
        keys = {name: one.key for name, one in self.ring.items()}
        return KeyRing(keys, active=self.active, writers=writers, only_open=only_open)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    __pydantic_config__: ClassVar = STRICT

    host: Host = "127.0.0.1"
    port: Annotated[int, Read(whole(0, 65_535))] = 9464  # 0: any free one
    bearer_token: BearerToken | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    __pydantic_config__: ClassVar = STRICT

    format: Annotated[LogFormat, Read(one_of(LogFormat))] = LogFormat.AUTO
    level: Annotated[LogLevel, Read(one_of(LogLevel))] = LogLevel.INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionsTable:
    __pydantic_config__: ClassVar = STRICT

    dir: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutsTable:
    __pydantic_config__: ClassVar = STRICT

    dir: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    __pydantic_config__: ClassVar = STRICT

    enabled: Flag = False
    tokens: Annotated[int, Read(whole(1, 10_000))] = 5
    lifetime: Span = timedelta(seconds=60)
