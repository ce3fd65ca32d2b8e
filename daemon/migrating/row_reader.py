"""A row of an application's store, validated: as the token that it becomes, or as a reason why it can't."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from daemon.domain.consent import Consent, ConsentInvalid, read_consent
from daemon.domain.consent_ends import time_names
from daemon.domain.layout import Cipher, Layout, Reading, Row, RowInvalid
from daemon.domain.layout_reading import read
from daemon.domain.layout_writing import without_tokens
from daemon.domain.moving import Candidate, Origin
from daemon.domain.provider import Grant, Provider
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token, token_id
from daemon.domain.token_url import NotSendable, token_url
from daemon.migrating.ports import ForeignStore

LARGEST_ROW = 64 * 1024  # characters of an encoded row: each is stored with its token
LONGEST_SUBJECT = 512  # bytes

Providers = Callable[[str], Provider]  # raises RowInvalid for one that is not configured


@dataclass(slots=True)
class CountingCipher:
    """A cipher that counts its successes and failures: a wrong key opens nothing at all."""

    cipher: Cipher
    opened: int = 0
    failed: int = 0

    def open(self, cell: object) -> str:
        try:
            text = self.cipher.open(cell)
        except RowInvalid:
            self.failed += 1
            raise
        self.opened += 1
        return text

    def seal(self, text: str, *, like: object) -> object:
        return self.cipher.seal(text, like=like)

    @property
    def is_wrong(self) -> bool:
        """Whether nothing was opened, although there was something to open."""
        return self.failed > 0 and self.opened == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RowReader:
    """Reads the rows of `source`. `name`: what the tokens' origin calls it. `consented_at`: of rows that don't say it."""

    layout: Layout
    source: ForeignStore
    cipher: Cipher | None
    providers: Providers
    name: str
    consented_at: datetime | None = None

    def candidate(self, row: Row, *, label: str, read_at: datetime) -> Candidate:
        """Return the paused token that `row` becomes. `read_at`: no later than its reading. Raises RowInvalid."""
        encoded = self.source.encode(row.cells)
        if len(encoded) > LARGEST_ROW:
            raise RowInvalid(f"it has more than {LARGEST_ROW // 1024} KB, too much for a row of tokens")
        reading = read(self.layout, row, self.cipher, now=read_at)
        provider = self.providers(reading.provider)
        consented_at = reading.consented_at or self.consented_at
        consent = _consent(provider, reading, read_at, consented_at)
        _check(provider, reading, consent)
        token = _token(reading, consent, consented_at)
        rest = self.source.encode(without_tokens(self.layout, row.cells))
        return Candidate(
            label=label,
            token=token,
            origin=Origin(
                layout=self.layout.name,
                source=self.name,
                key=reading.key,
                row=Secret(encoded),
                rest=Secret(rest),
                read_at=read_at,
                end_is_known=consent.end_is_known
                and not consent.unclear
                and not _counts_from_an_unknown_start(reading),
            ),
            extra=consent.extra,
            meta=reading.meta,
            last_used_at=reading.last_used_at,
            subject=reading.subject if len((reading.subject or "").encode()) <= LONGEST_SUBJECT else None,
            unclear=consent.unclear,
            ignored=reading.ignored,
        )


def _consent(
    provider: Provider, reading: Reading, read_at: datetime, consented_at: datetime | None
) -> Consent:
    try:
        return read_consent(
            provider.definition,
            reading.body,
            received_at=min(reading.issued_at or read_at, read_at),
            now=read_at,
            consented_at=consented_at,
        )
    except ConsentInvalid as why:
        raise RowInvalid(str(why)) from None


def _check(provider: Provider, reading: Reading, consent: Consent) -> None:
    """Raise RowInvalid for a token that could never be renewed."""
    if provider.definition.grant is Grant.REFRESH_TOKEN and consent.refresh_token is None:
        raise RowInvalid("it has no refresh token, so nothing can renew it; let the owner consent again")
    try:
        token_url(provider, reading.vars)
    except NotSendable as why:
        raise RowInvalid(f"{why}; the layout's [vars] say which field of a row has it") from None


def _token(reading: Reading, consent: Consent, consented_at: datetime | None) -> Token:
    try:
        name = token_id(reading.provider, reading.account)
    except ValueError as why:
        raise RowInvalid(str(why)) from None
    return Token(
        id=name,
        provider=reading.provider,
        account=reading.account,
        state=State.PAUSED,
        refresh_token=consent.refresh_token,
        access_token=consent.access_token,
        token_type=consent.token_type,
        scope=consent.scope,
        issued_at=consent.issued_at,
        expires_at=consent.expires_at,
        refresh_expires_at=consent.refresh_expires_at,
        consent_ends_at=consent.consent_ends_at,
        # Without a last renewal, the next one would count the consent's end from `issued_at`.
        refreshed_at=consent.issued_at if consented_at and consented_at < consent.issued_at else None,
        vars=reading.vars,
    )


def _counts_from_an_unknown_start(reading: Reading) -> bool:
    """Return whether the row gives the access token a number of seconds to live, and doesn't say since when."""
    names = time_names(reading.body)
    absolute = "expires_at" in reading.body or names.ends
    return bool(names.spans) and not absolute and not names.births and reading.issued_at is None
