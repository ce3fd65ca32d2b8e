"""How long a token that another instance may have spent is left alone: as long as presenting it again could do harm."""

from datetime import timedelta

import pytest

from daemon.domain.provider import Definition, Grant, Provider, Rotation

LEASE, RETRY_WITHIN, ADOPT_AFTER = timedelta(seconds=90), timedelta(seconds=60), timedelta(minutes=15)
LONG_GRACE = LEASE + RETRY_WITHIN


def adoptable_after(**known) -> timedelta:
    definition = Definition(name="acme", title="Acme", token_url="https://acme.example/token", **known)
    provider = Provider(definition=definition, client_id="me")
    return provider.adoptable_after(lease=LEASE, retry_within=RETRY_WITHIN, adopt_after=ADOPT_AFTER)


@pytest.mark.parametrize(
    "known",
    [
        {},
        {"rotation": Rotation.ALWAYS},
        {"grace": LONG_GRACE - timedelta(seconds=1)},
    ],
    ids=["nothing known", "rotates", "grace too short"],
)
def test_what_may_be_revoked_by_its_reuse_is_left_alone(known):
    """A spent value could cost the successor in a dead host's journal; a grace counts only if the retry falls inside."""
    assert adoptable_after(**known) == ADOPT_AFTER


@pytest.mark.parametrize(
    "known",
    [
        {"rotation": Rotation.NEVER},
        {"reuse_refused": True},
        {"grace": LONG_GRACE},
        {"grant": Grant.EXCHANGE},
        {"grant": Grant.CLIENT_CREDENTIALS},
    ],
    ids=["never rotates", "reuse refused", "long grace", "exchange", "client credentials"],
)
def test_where_presenting_it_again_is_harmless_it_is_adopted_with_the_lease(known):
    """Then nobody waits for a replica that is gone."""
    assert adoptable_after(**known) == timedelta(0)
