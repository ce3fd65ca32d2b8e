"""Each definition with a consent page, from the page to the revocation, at the sandbox that speaks as that provider.

The requests are the daemon's own, and what they come to is in the sandbox's ledger. No socket is opened.
"""

from dataclasses import replace

import pytest

from daemon.domain.answer import Granted, Rejected
from daemon.domain.authorization import Code, Denied
from daemon.domain.code_reply import CodeGrant
from daemon.domain.consent_request import ConsentFailure, ConsentFailureKind
from daemon.domain.dialect import read
from daemon.domain.provider import Grant, Pkce
from daemon.domain.request import refresh_request
from daemon.domain.revocation import RevocationEnds
from daemon.domain.revocation_outcome import Again, Done, outcome_of
from daemon.domain.revocation_request import presented, revocation_of, revocation_request
from daemon.domain.secret import Secret
from daemon.domain.token import Token
from tests.providers.connecting import Connecting
from tests.providers.expectations import ROWS
from tests.providers.test_consents import NO_PAGE
from tests.providers.wire import CLOCK

# Rows of the same definition stand for other settings at the provider. `generic` and `zoom-server` have no page.
CONNECTED = [name for name, row in ROWS.items() if row.definition not in NO_PAGE]
REVOCABLE = [name for name in CONNECTED if revocation_of(Connecting(ROWS[name]).definition)]
UNCLEAR = {  # a dead token and another fault are answered alike, so a repeated revocation needs an operator in the end
    "github-app-oauth": "422 also stands for other faults",
    "linear": "400 also stands for other faults",
}


@pytest.fixture
def client(name: str) -> Connecting:
    return Connecting(ROWS[name])


def connected(client: Connecting, *, account: str = "1234") -> tuple[CodeGrant, Token]:
    """A grant that its owner has just given, and the token that is stored of it."""
    authorization = client.authorization()
    code = client.called_back(authorization, account=account)
    assert isinstance(code, Code)
    grant = client.exchange(code, authorization)
    assert isinstance(grant, CodeGrant), grant
    return grant, client.token(grant)


def renewed(client: Connecting, token: Token) -> Token | Rejected:
    """The token after one renewal, or the refusal of it."""
    reply = client.ask(refresh_request(client.provider, token, now=CLOCK.now()))
    answer = read(client.provider, token, reply)
    if isinstance(answer, Rejected):
        return answer
    assert isinstance(answer, Granted), answer
    return replace(
        token, access_token=answer.access_token, refresh_token=answer.refresh_token or token.refresh_token
    )


def is_live(client: Connecting, token: Token) -> bool:
    assert token.access_token is not None
    return client.sandbox._grants.accepts(token.access_token.reveal(), now=CLOCK.now())


@pytest.mark.parametrize("name", CONNECTED)
def test_an_owner_consents_and_the_grant_is_renewed(client: Connecting) -> None:
    """The page is asked as the provider wants it, and everything that renewals need is in the reply to the code."""
    grant, token = connected(client)
    consents = client.sandbox.consents()
    assert [(one["state"], one["asked"], one["account"]) for one in consents] == [
        ("spent", list(client.scopes), "1234")
    ]
    assert grant.missing_scopes == ()
    if client.definition.account_from is not None:
        assert grant.account is not None
        assert grant.account.endswith("1234")
    assert (token.refresh_token is not None) == (client.definition.grant is Grant.REFRESH_TOKEN)
    assert is_live(client, token)
    if client.definition.grant is not Grant.NONE:
        after = renewed(client, token)
        assert isinstance(after, Token)
        assert is_live(client, after)
        assert after.access_token != token.access_token


@pytest.mark.parametrize("name", CONNECTED)
def test_two_owners_are_two_accounts(client: Connecting) -> None:
    """A definition that names the account has another name for another owner."""
    accounts = [connected(client, account=account)[0].account for account in ("1234", "5678")]
    assert (None in accounts) == (client.definition.account_from is None)
    assert None in accounts or len(set(accounts)) == 2


@pytest.mark.parametrize("name", CONNECTED)
def test_the_code_verifier_is_what_a_provider_with_pkce_compares(client: Connecting) -> None:
    """With another verifier the code is refused, and nothing is granted; a provider without PKCE takes no notice."""
    authorization = client.authorization()
    code = client.called_back(authorization)
    assert isinstance(code, Code)
    if authorization.code_verifier is None:
        assert client.definition.pkce is Pkce.NONE
        return
    other = replace(authorization, code_verifier=Secret("w" * 43))
    outcome = client.exchange(code, other)
    if client.dialect.consent.pkce == "ignored":
        assert isinstance(outcome, CodeGrant)
    else:
        assert isinstance(outcome, ConsentFailure)
        assert outcome.kind is ConsentFailureKind.REFUSED
        assert client.ledger() == []


@pytest.mark.parametrize("name", CONNECTED)
def test_a_code_is_worth_nothing_twice(client: Connecting) -> None:
    """The second presentation is understood as a refusal, in the provider's own words."""
    authorization = client.authorization()
    code = client.called_back(authorization)
    assert isinstance(code, Code)
    assert isinstance(client.exchange(code, authorization), CodeGrant)
    again = client.exchange(code, authorization)
    assert isinstance(again, ConsentFailure)
    assert again.kind is ConsentFailureKind.REFUSED
    assert again.code


@pytest.mark.parametrize("name", CONNECTED)
def test_an_owner_who_denies_is_understood(client: Connecting) -> None:
    """The provider's word for it arrives with the right state."""
    answer = client.called_back(client.authorization(), approved=False)
    assert isinstance(answer, Denied)
    assert answer.code == client.dialect.consent.denied


@pytest.mark.parametrize("name", REVOCABLE)
def test_a_revocation_ends_the_grant(client: Connecting) -> None:
    """Every request that the definition names is answered as a success, and afterwards neither token is worth anything."""
    _, token = connected(client)
    if client.definition.grant is not Grant.NONE:
        after = renewed(client, token)
        assert isinstance(after, Token)
        token = after
    for one in presented(client.provider, token):
        request = revocation_request(client.provider, one, client.variables, now=CLOCK.now())
        reply = client.revoke(request)
        assert isinstance(outcome_of(client.provider, token, reply), Done), reply
    assert isinstance(renewed(client, token), Rejected)
    assert not is_live(client, token)


@pytest.mark.parametrize("name", REVOCABLE)
def test_a_revocation_of_a_dead_grant_is_a_success_too(client: Connecting) -> None:
    """A repeated request comes to the same end, so a daemon may die between the request and its record."""
    _, token = connected(client)
    for _ in range(2):
        for one in presented(client.provider, token):
            request = revocation_request(client.provider, one, client.variables, now=CLOCK.now())
            outcome = outcome_of(client.provider, token, client.revoke(request))
    assert isinstance(outcome, Again if client.name in UNCLEAR else Done), outcome


@pytest.mark.parametrize("name", REVOCABLE)
def test_a_revocation_ends_no_more_than_the_definition_says(client: Connecting) -> None:
    """A second consent of the account outlives a revocation that is said to end the presented token only."""
    (_, first), (_, second) = connected(client), connected(client)
    if client.dialect.consent.most == 1:
        return  # the second consent has ended the first
    for one in presented(client.provider, first):
        client.revoke(revocation_request(client.provider, one, client.variables, now=CLOCK.now()))
    revocation = revocation_of(client.definition)
    assert revocation is not None
    if revocation.ends is RevocationEnds.TOKEN:
        assert is_live(client, second)
    assert not is_live(client, first)
