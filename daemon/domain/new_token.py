"""The token that a new consent makes."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from daemon.domain.consent import Consent
from daemon.domain.due import Moment, first_due
from daemon.domain.provider import Provider
from daemon.domain.token import State, Token


def new_token(
    name: str,
    provider: Provider,
    consent: Consent,
    *,
    variables: Mapping[str, str],
    moment: Moment,
) -> Token:
    """Return the token with the id `name`, and the time at which it is first renewed."""
    token = Token(
        id=name,
        provider=provider.name,
        account=name.partition(":")[2],
        state=State.ACTIVE,
        refresh_token=consent.refresh_token,
        access_token=consent.access_token,
        token_type=consent.token_type,
        scope=consent.scope,
        issued_at=consent.issued_at,
        expires_at=consent.expires_at,
        refresh_expires_at=consent.refresh_expires_at,
        consent_ends_at=consent.consent_ends_at,
        vars=variables,
    )
    due_at = first_due(provider, token, moment=moment)
    return replace(token, due_at=moment.now if due_at and not _is_good(consent, moment.now) else due_at)


def _is_good(consent: Consent, now: datetime) -> bool:
    """Return whether the access token is known to live on. Else it is renewed immediately: that costs one request."""
    ends = consent.expires_at
    return consent.end_is_known and not consent.unclear and (ends is None or ends > now)
