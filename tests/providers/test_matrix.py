"""Every definition against the sandbox that speaks as that provider, over real HTTP: what is read, and what is stored.

The two sides were written from the same facts by different hands and share no code; `expectations` is the third.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.adapters.token_endpoint.response_parser import LARGEST_REPLY
from daemon.domain.answer import Granted, Misconfigured, Rejected, Unavailable, Unparsed
from daemon.domain.change import Postponed, Renewed, Retired, Withheld
from daemon.domain.consent import read_consent
from daemon.domain.reply import Reply
from daemon.domain.token import State, Token
from daemon.sandbox.ledger import fingerprint
from tests.providers.expectations import ROWS
from tests.providers.row import ENDS, Row, told
from tests.providers.speaking import Outcome, Speaker
from tests.providers.wire import CLOCK

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAULTS: Mapping[str, dict[str, object]] = {
    "dead grant": {"kind": "dead_grant"},
    "wrong client": {"kind": "wrong_client"},
    "throttle": {"kind": "throttle"},
    "throttle, Retry-After: 7": {"kind": "throttle", "retry_after": 7},
    "server error": {"kind": "error", "after_processing": True},
    "outage": {"kind": "outage"},
    "reset": {"kind": "reset", "after_processing": True},
    "garbage": {"kind": "garbage"},
    "truncated": {"kind": "cut"},
    "2 MB": {"kind": "huge"},
}
SPOILT = {"reset", "garbage", "truncated", "2 MB"}  # these have no words of the provider's
TOLERANCE = timedelta(seconds=30)  # between the consent and the end of a test, on a busy machine
rows = pytest.mark.parametrize("name", ROWS)


@pytest.fixture
def speaker(speakers: dict[str, Speaker], name: str) -> Speaker:
    return speakers[name]


def altered(row: Row, **members: object) -> Callable[[Reply], Reply]:
    """A reply with other members, under the standard's names; None takes one away."""

    def edit(reply: Reply) -> Reply:
        return replace(reply, body=json.dumps(row.altered(json.loads(reply.body), members)).encode())

    return edit


def refused(reply: Reply) -> Reply:
    """Instead of the reply, an error that is in no list."""
    return replace(reply, status=400, body=b'{"error": "never_heard_of"}')


def check_kept(seen: Outcome) -> None:
    """No verdict but a dead grant retires a token, and none at all takes its refresh token away."""
    assert not isinstance(seen.change, Retired)
    assert not {"state", "refresh_token"} & seen.stored.keys()
    if isinstance(seen.change, Postponed):
        wait = getattr(seen.answer, "retry_after", None) or timedelta(0)
        assert seen.at + wait <= seen.change.due_at < seen.at + timedelta(minutes=11)


@rows
async def test_a_success_is_read_whole(speaker: Speaker) -> None:
    """The tokens, when they end, what applications need, and when it is due again."""
    row, (token, grant) = speaker.row, speaker.consent()
    seen = await speaker.ask(token)
    issued = speaker.issued_last(None if speaker.issues_anew else grant)
    assert isinstance(seen.answer, Granted)
    assert isinstance(seen.change, Renewed)
    assert isinstance(seen.reply, Reply)
    body = json.loads(seen.reply.body)
    scope = row.member(body, "scope") or body.get("scopes")  # the latter is HubSpot's
    assert seen.answer.access_token.reveal() == issued
    assert seen.opened("access_token", token) == issued
    assert seen.answer.scope == (" ".join(scope) if isinstance(scope, list) else scope or None)
    assert seen.answer.token_type == row.member(body, "token_type")
    assert seen.answer.expires_at is not None
    # An instant is in whole seconds of the provider's clock.
    off = timedelta(0) if row.tells_seconds(body) else TOLERANCE
    assert abs(seen.answer.expires_at - (seen.reply.asked_at + row.lives)) <= off
    assert {
        name.removeprefix("extra."): seen.stored[name] for name in seen.stored if "extra." in name
    } == row.keeps
    ends, expires = seen.change.refresh_expires_at, seen.answer.expires_at
    if row.refresh_ends is None:
        assert ends is None
    else:
        assert ends is not None
        assert abs(ends - seen.at - row.refresh_ends) < TOLERANCE
    assert seen.change.due_at is not None
    assert seen.at < seen.change.due_at < min(expires, ends or expires)
    assert "state" not in seen.stored


@rows
async def test_without_an_end_in_the_reply_the_documented_lifetime_counts(speaker: Speaker) -> None:
    """An hour where none is documented."""
    token, _ = speaker.consent()
    seen = await speaker.ask(token, edit=altered(speaker.row, **dict.fromkeys(ENDS)))
    assert isinstance(seen.answer, Granted)
    assert seen.answer.expires_at == seen.reply.asked_at + speaker.row.documented


@rows
async def test_a_consent_tells_what_only_a_consent_tells(speaker: Speaker) -> None:
    """The whole response as it stands is what an operator hands over."""
    body, now = speaker.sandbox.consent()[0], CLOCK.now()
    read = read_consent(speaker.provider.definition, body, received_at=now, now=now)
    assert read.extra == {**speaker.row.keeps, **speaker.row.first}


@rows
async def test_a_successor_is_stored_when_it_comes(speaker: Speaker) -> None:
    """It is the one that the ledger calls current; a refresh token that stays is not written again."""
    row, (token, grant) = speaker.row, speaker.consent()
    for number in range(1, (row.every or 2) + 1):
        seen = await speaker.ask(token)
        assert isinstance(seen.change, Renewed)
        comes = bool(row.every) and number % row.every == 0
        successor = seen.opened("refresh_token", token)
        assert (successor is not None) is comes
        assert isinstance(seen.answer, Granted)
        assert (seen.answer.refresh_token is not None) is (comes or row.told)
        token = replace(
            token,
            refresh_token=seen.change.successor or token.refresh_token,
            access_token=seen.answer.access_token,
        )
    if not speaker.issues_anew:
        presented = token.refresh_token or token.access_token
        assert presented is not None
        truth = speaker.truth(grant)
        assert truth["current"] == fingerprint(presented.reveal())
        assert [line["outcome"] for line in truth["presented"]] == ["granted"] * (row.every or 2)


@rows
async def test_without_a_refresh_token_in_the_reply_the_old_one_stays(speaker: Speaker) -> None:
    """Where it is always replaced, somebody must look: the access token is used, and the old value rests."""
    token, _ = speaker.consent()
    seen = await speaker.ask(token, edit=altered(speaker.row, refresh_token=None))
    check_kept(seen)
    assert seen.opened("access_token", token) == speaker.issued_last(None)
    if speaker.row.always:
        assert told(seen.answer) == "Unparsed no_refresh_token"
        assert isinstance(seen.change, Withheld)
        assert seen.stored["due_at"] is None
    else:
        assert isinstance(seen.answer, Granted)
        assert seen.answer.refresh_token is None
        assert isinstance(seen.change, Renewed)


@rows
async def test_a_refresh_token_that_nobody_expected_is_stored(speaker: Speaker) -> None:
    """Even of a provider that is known never to replace it. What presents no refresh token is given none."""
    token, _ = speaker.consent()
    seen = await speaker.ask(token, edit=altered(speaker.row, refresh_token="1//un+expected"))
    assert isinstance(seen.answer, Granted)
    expected = "1//un+expected" if token.refresh_token is not None else None
    assert seen.opened("refresh_token", token) == expected


@rows
@pytest.mark.parametrize("situation", FAULTS)
async def test_what_goes_wrong_is_read_as_expected(speaker: Speaker, situation: str) -> None:
    """In every wording that is known. It costs no grant, unless it is dead, and no answer holds a grant that was cut."""
    row, fault, expected = speaker.row, FAULTS[situation], speaker.row.expects(situation)
    for number, answer in enumerate(expected):
        token, grant = speaker.consent()
        seen = await speaker.ask(token, wording=number, **fault)
        if situation == "truncated" and seen.holds_refresh_token:
            assert told(seen.answer) in {"Granted", "Unparsed no_grant", answer}
            continue
        assert told(seen.answer) == answer
        if isinstance(seen.answer, Rejected) and row.confirmed is None:
            assert situation == "dead grant"
            assert isinstance(seen.change, Retired)
            assert seen.stored["state"] == State.NEEDS_REAUTH.value
            assert "refresh_token" not in seen.stored
        elif isinstance(seen.answer, Granted):
            assert isinstance(seen.change, Renewed)
        else:
            check_kept(seen)
        if isinstance(seen.reply, Reply):
            assert len(seen.reply.body) <= LARGEST_REPLY
        if not speaker.issues_anew:
            truth = speaker.truth(grant)
            assert len(truth["presented"]) == 1
    if situation not in SPOILT:
        with pytest.raises(ValueError, match="wording must be below"):
            speaker.sandbox.add_fault({**fault, "wording": len(expected)})


@rows
async def test_words_that_nobody_knows_condemn_nothing(speaker: Speaker) -> None:
    """Where a provider's dead grant is not settled, that is all that an unexpected wording does."""
    token, _ = speaker.consent()
    seen = await speaker.ask(token, edit=refused)
    assert [told(seen.answer)] == speaker.row.expects("words nobody knows")
    check_kept(seen)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.success])
async def test_a_reply_that_does_not_call_itself_a_success_is_none(speaker: Speaker) -> None:
    """Whatever it holds: the access token is not used, and a new refresh token is kept for an operator."""

    def contradicted(reply: Reply) -> Reply:
        return replace(reply, body=json.dumps(json.loads(reply.body) | {speaker.row.success: 7}).encode())

    token, _ = speaker.consent()
    seen = await speaker.ask(token, edit=contradicted)
    assert isinstance(seen.answer, Unparsed if speaker.row.every else Unavailable)
    assert "access_token" not in seen.stored
    check_kept(seen)


@rows
async def test_a_hang_leaves_a_doubt(
    speaker: Speaker, hung: Mapping[str, tuple[Token, str, Outcome]], name: str
) -> None:
    """The request was processed, which nobody here can know: the same value is to be presented once more, and soon."""
    _, grant, seen = hung[name]
    assert [told(seen.answer)] == speaker.row.expects("hang")
    check_kept(seen)
    assert isinstance(seen.change, Postponed)
    assert seen.change.doubt is not None
    assert seen.change.doubt.tries == 1
    assert seen.change.due_at <= seen.at + timedelta(seconds=2)
    if not speaker.issues_anew:
        [line] = speaker.truth(grant)["presented"]
        assert (line["outcome"], line["fault"]) == ("granted", "hang")


@rows
async def test_a_withdrawn_grant_is_dead_once_it_was_said_often_enough(speaker: Speaker) -> None:
    """At once, or only when it is repeated later where a first rejection has meant other things. Words that nobody can tell
    from another error's leave the token alone.
    """
    if speaker.issues_anew:
        assert "dead grant" in speaker.row.says  # there is no consent that could be withdrawn
        return
    row, (token, grant) = speaker.row, speaker.consent()
    speaker.sandbox._grants.withdraw(grant)
    seen = await speaker.ask(token)
    assert told(seen.answer) == row.expects("dead grant")[0]
    if not row.is_recognised:
        check_kept(seen)
        assert isinstance(seen.change, Postponed)
        return
    if row.confirmed is not None:
        check_kept(seen)
        assert isinstance(seen.change, Postponed)
        assert seen.change.due_at >= seen.at + row.confirmed
        seen = await speaker.ask(replace(token, last_failure=seen.change.failure, failures=1))
    assert isinstance(seen.change, Retired)
    assert seen.stored["state"] == State.NEEDS_REAUTH.value


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.confirmed and row.is_recognised])
async def test_what_was_rejected_once_and_is_then_granted_is_as_good_as_ever(speaker: Speaker) -> None:
    """An outage can say that a grant is dead; the next answer decides."""
    token, _ = speaker.consent()
    seen = await speaker.ask(token, kind="dead_grant")
    assert isinstance(seen.answer, Rejected)
    assert isinstance(seen.change, Postponed)
    seen = await speaker.ask(replace(token, last_failure=seen.change.failure, failures=1))
    assert isinstance(seen.change, Renewed)
    assert (seen.stored["failures"], seen.stored["last_failure"]) == (0, None)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.client != "nobody"])
async def test_a_wrong_secret_condemns_no_grant_and_spends_nothing(speaker: Speaker) -> None:
    """Asked with another's secret, or as another client: ours to mend. With the right one, the same value is good, but at
    Procore.
    """
    token, grant = speaker.consent()
    seen = await speaker.ask(token, as_=speaker.wrong())
    assert told(seen.answer) == speaker.row.expects("wrong client")[0]
    assert isinstance(seen.answer, Misconfigured | Unavailable)
    check_kept(seen)
    after = (await speaker.ask(token)).answer
    if speaker.row.spends:
        assert speaker.provider.definition.spends_on_refusal
        assert isinstance(after, Rejected)
        return
    assert isinstance(after, Granted)
    if not speaker.issues_anew:
        truth = speaker.truth(grant)
        assert truth["revoked_by"] is None
        assert truth["presented"][-1]["outcome"] == "granted"


@rows
async def test_a_refused_request_of_two_megabytes_is_no_verdict(speaker: Speaker) -> None:
    """Neither is what stands at its beginning, since the rest is not read."""
    token, _ = speaker.consent()
    seen = await speaker.ask(token, kind="huge", after_processing=False)
    assert not isinstance(seen.answer, Granted | Unparsed | Rejected)
    check_kept(seen)
