"""Revocation as RFC 7009 has it, by plain HTTP; the ledger shows what has ended and what has not."""

from base64 import b64encode
from typing import Any
from urllib.parse import quote_plus

import pytest

from daemon.sandbox.accents import TokenKind
from daemon.sandbox.grants import Grants
from daemon.sandbox.ledger import fingerprint
from daemon.sandbox.terms import Terms
from tests.sandbox.test_consents import NOW

KINDS: tuple[TokenKind, ...] = ("refresh_token", "access_token")


async def revoke(peer: Any, token: str | None, **form: str) -> tuple[int, str]:
    client = {"client_id": peer.sandbox.client_id, "client_secret": peer.sandbox.client_secret}
    sent = client | ({} if token is None else {"token": token}) | form
    async with peer.session.post(peer.sandbox.describe()["revoke_url"], data=sent) as reply:
        return reply.status, await reply.text(errors="replace")


async def grant(peer: Any) -> Any:
    [answer] = await peer.call("POST", "/grants?account=me")
    return answer


@pytest.mark.parametrize("kind", KINDS)
async def test_a_revoked_token_ends_its_grant(peer: Any, kind: str) -> None:
    """Renewals and the resource refuse it; the account's other grant lives on."""
    one, other = await grant(peer), await grant(peer)
    assert await revoke(peer, one[kind], token_type_hint=kind) == (200, "")
    assert (await peer.refresh(one["refresh_token"]))[0] == 400
    headers = {"Authorization": f"Bearer {one['access_token']}"}
    await peer.call("GET", "/resource", headers=headers, status=401)
    assert (await peer.refresh(other["refresh_token"]))[0] == 200
    truth = await peer.ledger(one["grant"])
    assert (truth["revoked_by"], truth["live"], truth["account"]) == ("client", [], "me")
    [line] = truth["revocations"]
    assert (line["sha256"], line["kind"], line["outcome"]) == (fingerprint(one[kind]), kind, "revoked")


async def test_a_token_that_is_not_alive_is_answered_as_if_it_were(peer: Any) -> None:
    """RFC 7009, section 2.2: unknown, revoked before, or never a token."""
    one = await grant(peer)
    await revoke(peer, one["refresh_token"])
    for token in (one["refresh_token"], "never issued", "1"):
        assert await revoke(peer, token) == (200, "")
    lines = (await peer.ledger(one["grant"]))["revocations"]
    assert [line["outcome"] for line in lines] == ["revoked", "gone"]


async def test_a_spent_refresh_token_ends_nothing(peer: Any) -> None:
    """Revoking the predecessor leaves the grant alive, and the ledger shows it."""
    one = await grant(peer)
    _, renewed = await peer.refresh(one["refresh_token"])
    assert (await revoke(peer, one["refresh_token"]))[0] == 200
    truth = await peer.ledger(one["grant"])
    assert (truth["revoked_by"], [line["outcome"] for line in truth["revocations"]]) == (None, ["gone"])
    assert (await peer.refresh(renewed["refresh_token"]))[0] == 200


async def test_a_stranger_revokes_nothing(peer: Any) -> None:
    """The attempt is in the ledger."""
    one = await grant(peer)
    assert (await revoke(peer, one["refresh_token"], client_secret="wrong"))[0] == 401
    assert (await revoke(peer, None))[0] == 400
    truth = await peer.ledger(one["grant"])
    assert truth["revoked_by"] is None
    assert [line["outcome"] for line in truth["revocations"]] == ["invalid_client"]


async def test_basic_authentication_is_taken_too(peer: Any) -> None:
    """As at the token endpoint."""
    one = await grant(peer)
    pair = f"{quote_plus(peer.sandbox.client_id)}:{quote_plus(peer.sandbox.client_secret)}"
    headers = {"Authorization": "Basic " + b64encode(pair.encode()).decode()}
    async with peer.session.post(
        peer.sandbox.url + "/revoke", data={"token": one["refresh_token"]}, headers=headers
    ) as reply:
        assert reply.status == 200
    assert (await peer.ledger(one["grant"]))["revoked_by"] == "client"


@pytest.mark.parametrize(("kind", "effect"), [("outage", None), ("garbage", "client")])
async def test_a_revocation_fails_on_request(peer: Any, kind: str, effect: str | None) -> None:
    """Before it takes effect, or after: a lost answer to what has happened."""
    one = await grant(peer)
    await peer.fault(kind=kind, at="revoke", count=1)
    await revoke(peer, one["refresh_token"])
    truth = await peer.ledger(one["grant"])
    assert truth["revoked_by"] == effect
    assert [line["fault"] for line in truth["revocations"]] == [kind]
    assert (await revoke(peer, one["refresh_token"]))[0] == 200
    assert (await peer.ledger(one["grant"]))["revoked_by"] == "client"


@pytest.mark.parametrize(
    ("kind", "ends", "ended", "renews", "reads"),
    [
        ("refresh_token", "account", ["client", "client"], False, False),
        ("access_token", "account", ["client", "client"], False, False),
        ("refresh_token", "grant", ["client", None], False, False),
        ("refresh_token", "family", ["client", None], False, False),
        ("access_token", "family", [None, None], True, False),
        ("refresh_token", "token", [None, None], False, True),
        ("access_token", "token", [None, None], True, False),
    ],
)
def test_how_much_ends_is_the_providers_choice(
    kind: str, ends: Any, ended: Any, renews: bool, reads: bool
) -> None:
    """All of the account, this grant, this token with those that were issued for it, or this token alone."""
    grants = Grants(Terms())
    one, _ = (grants.consent(now=NOW, account="me") for _ in range(2))
    assert one.refresh_token is not None
    value = one.refresh_token if kind == "refresh_token" else one.access_token
    assert grants.revoke(value, takes=KINDS, ends=ends, now=NOW) == "revoked"
    assert [grant.revoked_by for grant in grants] == ended
    assert grants.accepts(one.access_token, now=NOW) == reads
    assert (grants.present(one.refresh_token, now=NOW)[0] is not None) == renews


def test_a_kind_that_is_not_taken_is_unknown() -> None:
    """Nothing happens to it, and nothing is written down."""
    grants = Grants(Terms())
    pair = grants.consent(now=NOW)
    assert grants.revoke(pair.access_token, takes=("refresh_token",), ends="grant", now=NOW) == "unknown"
    [grant] = grants
    assert (grant.revoked_by, grant.revocations) == (None, [])


def test_an_access_token_of_the_client_itself_can_be_revoked() -> None:
    """It has no grant: the token alone ends, whatever the provider's choice is."""
    grants = Grants(Terms())
    pair = grants.client_credentials(now=NOW)
    assert grants.revoke(pair.access_token, takes=KINDS, ends="account", now=NOW) == "revoked"
    assert not grants.accepts(pair.access_token, now=NOW)
    assert grants.revoke(pair.access_token, takes=KINDS, ends="account", now=NOW) == "unknown"


def test_where_no_value_is_ever_spent_an_older_one_revokes_too() -> None:
    """`reuse = "keep"`: each that was issued is alive, until its grant has ended."""
    grants = Grants(Terms(reuse="keep"))
    first = grants.consent(now=NOW).refresh_token
    assert first is not None
    grants.present(first, now=NOW)
    assert grants.revoke(first, takes=KINDS, ends="grant", now=NOW) == "revoked"
    assert grants.revoke(first, takes=KINDS, ends="grant", now=NOW) == "gone"
