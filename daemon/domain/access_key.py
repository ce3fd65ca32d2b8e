"""Access keys: which tokens a caller of `refreshd serve` may use, and how. Everything is denied that no key allows.

A key's text is `rfk_<id>_<secret>_<CRC32>`. The id finds the key, the secret proves it, and the CRC lets scanners
recognize a leaked key. Only a hash of the secret is stored.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import NamedTuple

from daemon.domain.provider import Rate
from daemon.domain.secret import Secret

ID_LENGTH, SECRET_BYTES = 20, 32
_ALPHABET = string.ascii_lowercase + string.digits
ID_FORM = re.compile(rf"[a-z0-9]{{{ID_LENGTH}}}")
NAME_FORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SUBJECT, META = "subject", "meta."
# A name in `meta` is a part of a path in MongoDB.
_FIELD = re.compile(r"subject|meta\.[^.$=\x00-\x1f\x7f-\x9f][^.=\x00-\x1f\x7f-\x9f]{0,63}")
_FORM = re.compile(r"(rfk_([a-z0-9]{20})_([A-Za-z0-9_-]{43})_)([0-9a-f]{8})")
ANY = "*"  # at the end of a selector


class Verb(StrEnum):
    """One thing that a key may do."""

    READ = "read"
    REFUSE = "refuse"
    WRITE = "write"
    REPLACE = "replace"  # with `write`: also the grant of another account of the provider
    PAUSE = "pause"
    CONNECT = "connect"
    REVOKE = "revoke"
    LIST = "list"
    AUDIT = "audit"


class Presented(NamedTuple):
    """An access key as a caller sent it."""

    id: str
    secret: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The properties of a stored token that selectors look at. `fields`: `subject` and `meta.NAME`."""

    id: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """A stored access key. `secret_hash`: SHA-256 of the secret, in hex. `tokens`: ids, or beginnings of ids with a
    final `*`. `where`: `subject` or `meta.NAME` -> the text that it must equal; all of them must. `networks`: empty
    for any. `disabled_at`: a restore of a backup has brought the key back, and no operator has enabled it since.
    Instants are by the store's clock.
    """

    id: str
    name: str
    secret_hash: str = field(repr=False)
    tokens: tuple[str, ...]
    can: frozenset[Verb]
    where: Mapping[str, str] = field(default_factory=dict)
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    rate: Rate | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    disabled_at: datetime | None = None
    last_used_at: datetime | None = None

    def names(self, token: str) -> bool:
        """Return whether a selector names the id `token`. Ids are compared as bytes, without normalization."""
        return any(_matches(selector, token) for selector in self.tokens)

    def may(self, verb: Verb, token: Stored) -> bool:
        """Return whether the key may do `verb` with `token`."""
        return (
            verb in self.can
            and self.names(token.id)
            and all(token.fields.get(name) == text for name, text in self.where.items())
        )

    def is_valid(self, now: datetime) -> bool:
        """Return whether the key is neither revoked nor disabled nor past its end."""
        ended = self.expires_at is not None and now >= self.expires_at
        return self.revoked_at is None and self.disabled_at is None and not ended

    def admits(self, address: str) -> bool:
        """Return whether a caller with this IP address may use the key. "unix", for a caller on the socket, may only
        if the key is not limited to networks.
        """
        if not self.networks:
            return True
        try:
            ip = ip_address(address)
        except ValueError:
            return False
        mapped = getattr(ip, "ipv4_mapped", None)
        return any((mapped or ip) in network for network in self.networks)


def is_field(name: str) -> bool:
    """Return whether `where` may name this property of a token: `subject` or `meta.NAME`."""
    return _FIELD.fullmatch(name) is not None


def _matches(selector: str, token: str) -> bool:
    if selector.endswith(ANY):
        return token.startswith(selector.removesuffix(ANY))
    return token == selector


def new_key() -> tuple[Secret, Presented]:
    """Return the text of a new key, with the random id and secret in it."""
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(ID_LENGTH))
    secret = urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).rstrip(b"=").decode()
    body = f"rfk_{key_id}_{secret}_"
    return Secret(f"{body}{zlib.crc32(body.encode()):08x}"), Presented(key_id, Secret(secret))


def parse_key(text: str) -> Presented | None:
    """Return the id and the secret in `text`, or None if it doesn't have the form of a whole access key."""
    form = _FORM.fullmatch(text)
    if form is None or int(form[4], 16) != zlib.crc32(form[1].encode()):
        return None
    return Presented(form[2], Secret(form[3]))


def secret_hash(secret: Secret) -> str:
    """Return the hash of a secret of 256 random bits, which needs no slow hash."""
    return hashlib.sha256(secret.reveal().encode()).hexdigest()


_NO_HASH = secret_hash(Secret(""))


def proves(presented: Presented, key: AccessKey | None) -> bool:
    """Return whether the secret is that of `key`. The comparison takes the same time for an unknown key."""
    equal = hmac.compare_digest(secret_hash(presented.secret), key.secret_hash if key else _NO_HASH)
    return equal and key is not None
