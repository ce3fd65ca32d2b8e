"""Drift: found within 20 renewals of a change, and never where nothing has changed."""

import itertools
import random
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.deviation import Deviation, DriftKind
from daemon.domain.dialect import read
from daemon.domain.drift import MOST_TOLD, DriftWatch
from daemon.domain.provider import ClientAuth, Definition, ErrorPattern, Provider, Rotation, Variable
from daemon.domain.secret import Secret
from daemon.domain.token import Doubt, State, Token
from tests.domain.replies import ASKED, PLAIN, reply

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
WITHIN = 20
Body = dict[str, object]
ONE_HOUR = replace(PLAIN, access_lifetime=HOUR)
Quiet = Callable[..., None]
TENANTS = {"tenant": Variable(pattern=re.compile("[a-z0-9]+"))}


def texts() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"text-{number}"


@dataclass
class World:
    """A provider's tokens, renewed one after the other. `answers` makes the body for one of them."""

    definition: Definition
    tokens: dict[str, Token]
    watch: DriftWatch = field(default_factory=DriftWatch)
    now: datetime = ASKED
    fresh: Iterator[str] = field(default_factory=texts)

    @classmethod
    def of(cls, definition: Definition, count: int = 5, **more: object) -> "World":
        names = [f"acme:{number}" for number in range(count)]
        return cls(definition, {name: token(name, **more) for name in names})

    def grant(self, *, lives: float | None = 3600, rotates: bool = True, **more: object) -> Body:
        body: Body = {"access_token": next(self.fresh), "token_type": "Bearer", **more}
        if lives is not None:
            body["expires_in"] = lives
        if rotates:
            body["refresh_token"] = next(self.fresh)
        return body

    def renew(self, name: str, body: Body, status: int = 200) -> list[Deviation]:
        """Read the reply, judge it, and store the grant."""
        self.now += SECOND
        before = self.tokens[name]
        came = replace(reply(body, status), asked_at=self.now)
        provider = Provider(definition=self.definition, client_id="me", client_secret=Secret("short-secret"))
        answer = read(provider, before, came)
        found = self.watch.weigh(self.definition, before, came, answer)
        granted = getattr(answer, "granted", None) or answer
        if hasattr(granted, "access_token"):
            self.tokens[name] = replace(
                before,
                access_token=granted.access_token,
                refresh_token=granted.refresh_token or before.refresh_token,
                issued_at=self.now,
                expires_at=granted.expires_at,
                refreshed_at=self.now,
            )
        return found

    def run(
        self, count: int, answers: Callable[[str], Body], status: int = 200
    ) -> list[tuple[int, Deviation]]:
        """Renew the tokens in turn, and return what was found with its number, from 1."""
        names = list(self.tokens)
        return [
            (number, one)
            for number in range(1, count + 1)
            for name in [names[number % len(names)]]
            for one in self.renew(name, answers(name), status)
        ]


def token(name: str, **more: object) -> Token:
    return Token(
        id=name,
        provider="acme",
        account=name,
        state=State.ACTIVE,
        refresh_token=Secret(f"first-{name}"),
        **more,  # type: ignore[arg-type]
    )


# ---------------------------------------------------------------- what has changed is found


@pytest.mark.parametrize("tokens", [1, 2, 5, 300])
@pytest.mark.parametrize(
    ("lives", "line"),
    [
        (7200, "2h"),
        (1800, "30m"),
        (86_400, "24h"),
        (172_800, "2d"),
        (5_400, "90m"),
        (7_199, "2h"),
        (45, "45s"),
    ],
)
def test_a_lifetime_that_changes_is_found_with_its_line(tokens, lives, line):
    """Whether the provider has one token or many."""
    world = World.of(ONE_HOUR, tokens)
    assert world.run(max(30, tokens), lambda _: world.grant()) == []
    [(number, found)] = world.run(100, lambda _: world.grant(lives=lives))
    assert number <= WITHIN
    assert (found.kind, found.change) == (DriftKind.LIFETIME, f'access_lifetime = "{line}"')
    assert found.message == f"new access tokens live {line}, and the definition says 1h"


def test_the_line_of_a_lifetime_ends_the_drift():
    """An operator who copies it has a definition that fits."""
    world = World.of(ONE_HOUR)
    world.run(30, lambda _: world.grant())
    world.run(20, lambda _: world.grant(lives=7200))
    world.definition = replace(ONE_HOUR, access_lifetime=2 * HOUR)
    assert world.run(100, lambda _: world.grant(lives=7200)) == []
    [(_, found)] = world.run(100, lambda _: world.grant())
    assert found.change == 'access_lifetime = "1h"'


def test_a_lifetime_that_was_never_as_documented_is_found():
    """A wrong page is the commonest drift, and a restart must not hide a change."""
    world = World.of(ONE_HOUR)
    [(number, found)] = world.run(100, lambda _: world.grant(lives=1800))
    assert (number, found.change) == (WITHIN, 'access_lifetime = "30m"')


@pytest.mark.parametrize(
    ("documented", "rotates", "message"),
    [
        (
            Rotation.NEVER,
            True,
            'renewals replace the refresh token, and the definition says rotation = "never"',
        ),
        (
            Rotation.ALWAYS,
            False,
            'renewals bring no new refresh token, and the definition says rotation = "always"',
        ),
    ],
)
def test_a_rotation_that_changes_is_found_with_its_line(documented, rotates, message):
    world = World.of(replace(PLAIN, rotation=documented))
    assert world.run(50, lambda _: world.grant(rotates=not rotates)) == []
    [(number, found)] = world.run(100, lambda _: world.grant(rotates=rotates))
    assert number <= WITHIN
    assert (found.kind, found.message) == (DriftKind.ROTATION, message)
    assert found.change == 'rotation = "sometimes"'


def test_replies_without_the_refresh_token_that_must_come_are_soon_enough():
    """Each of them ends the renewals of its token, and three pause the provider."""
    world = World.of(replace(PLAIN, rotation=Rotation.ALWAYS))
    world.run(50, lambda _: world.grant())
    [(number, _)] = world.run(3, lambda _: world.grant(rotates=False))
    assert number == 3


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"error": "grant_gone", "error_description": "gone"}, "error"),
        ({"error": {"code": "grant_gone"}}, "error.code"),
        ({"ok": False, "problem": {"kind": "grant_gone"}, "code": "grant_gone"}, "code"),
    ],
)
def test_an_unknown_error_code_is_found_with_its_place(body, place):
    world = World.of(PLAIN)
    [(number, found)] = world.run(100, lambda _: body, status=400)
    assert number <= WITHIN
    assert found.kind is DriftKind.ERROR_CODE
    assert found.change.startswith(f'{{ field = "{place}", values = ["grant_gone"] }}')


def test_the_line_of_an_error_code_ends_the_drift():
    sign = ErrorPattern(field="error", values=frozenset({"grant_gone"}))
    world = World.of(replace(PLAIN, unavailable=(sign,)))
    assert world.run(100, lambda _: {"error": "grant_gone"}, status=400) == []


def test_a_new_field_is_found_with_its_line():
    world = World.of(replace(PLAIN, keep=("region",)))
    assert world.run(50, lambda _: world.grant(region="eu", realm="1")) == []
    [(number, found)] = world.run(
        100, lambda _: world.grant(region="eu", realm="1", api_domain="eu.acme.test")
    )
    assert number <= WITHIN
    assert (found.kind, found.change) == (DriftKind.NEW_FIELD, 'keep = ["region", "api_domain"]')
    assert "eu.acme.test" not in repr(found)


def test_a_new_field_that_sounds_like_a_secret_has_no_line():
    world = World.of(PLAIN)
    world.run(50, lambda _: world.grant())
    [(_, found)] = world.run(100, lambda _: world.grant(device_secret="hidden-value"))
    assert (found.kind, found.change) == (DriftKind.NEW_FIELD, "")
    assert "hidden-value" not in repr(found)


def test_a_stored_field_that_no_longer_comes_is_found_with_its_line():
    world = World.of(replace(PLAIN, keep=("region", "data.ledger")))
    assert world.run(50, lambda _: world.grant(region="eu", data={"ledger": "7"})) == []
    [(number, found)] = world.run(100, lambda _: world.grant(region="eu", data={}))
    assert number <= WITHIN
    assert (found.kind, found.change) == (DriftKind.MISSING_FIELD, 'keep = ["region"]')
    assert found.subject == "data.ledger"


def test_several_changes_at_once_are_found_each_once():
    definition = replace(ONE_HOUR, rotation=Rotation.NEVER)
    world = World.of(definition)
    world.run(50, lambda _: world.grant(rotates=False))
    found = world.run(500, lambda _: world.grant(lives=300, realm="1"))
    assert sorted(one.kind for _, one in found) == ["lifetime", "new_field", "rotation"]
    assert max(number for number, _ in found) <= WITHIN


# ---------------------------------------------------------------- what has not changed is not


@pytest.fixture(params=[3000, pytest.param(100_000, marks=pytest.mark.long)])
def quiet(request: pytest.FixtureRequest) -> Quiet:
    """Checks that so many renewals show no drift."""

    def check(world: World, answers: Callable[[str], Body]) -> None:
        assert world.run(request.param, answers) == []

    return check


def test_lifetimes_that_jitter_are_no_drift(quiet):
    world, chance = World.of(ONE_HOUR), random.Random(1)
    quiet(world, lambda _: world.grant(lives=3600 - chance.randrange(30)))


def test_a_definition_that_says_nothing_is_left_by_nothing(quiet):
    world, chance = World.of(PLAIN), random.Random(2)
    quiet(
        world, lambda _: world.grant(lives=chance.choice([60, 3600, 86_400]), rotates=chance.random() < 0.5)
    )


def test_remaining_lives_are_no_drift(quiet):
    """A provider returns the token that it has issued to others before, as long as that lives."""
    world, chance = World.of(ONE_HOUR), random.Random(3)
    quiet(world, lambda _: world.grant(lives=chance.randrange(1, 3601)))


def test_the_remaining_life_of_one_token_that_many_are_given_is_no_drift(quiet):
    """All those asked within a minute live alike."""
    world = World.of(ONE_HOUR, 200)
    issued = [world.now, "shared-0"]

    def answers(_name: str) -> Body:
        if world.now - issued[0] >= HOUR:
            issued[:] = [world.now, next(world.fresh)]
        lives = HOUR - (world.now - issued[0])
        return {"access_token": issued[1], "expires_in": max(1, int(lives.total_seconds()))}

    quiet(world, answers)


def test_a_token_that_is_returned_again_is_no_drift(quiet):
    """Asked a few minutes before its end, the provider returns the same token with what is left of it."""
    world = World.of(replace(ONE_HOUR, rotation=Rotation.NEVER))

    def answers(name: str) -> Body:
        old = world.tokens[name]
        if old.access_token is None or hash((name, world.now)) % 3 == 0:
            return world.grant(rotates=False)
        return {"access_token": old.access_token.reveal(), "expires_in": 300}

    quiet(world, answers)


@pytest.mark.parametrize("block", [1, 7, 50, 500])
def test_tenants_with_lifetimes_of_their_own_are_no_drift(block, quiet):
    """Also if one tenant's tokens are all renewed before those of the next one."""
    world = World.of(replace(ONE_HOUR, variables=TENANTS), 4 * block)
    for number, name in enumerate(world.tokens):
        world.tokens[name] = replace(world.tokens[name], vars={"tenant": f"t{number // block}"})

    def answers(name: str) -> Body:
        return world.grant(lives=(3600, 7200, 900, 86_400)[int(world.tokens[name].vars["tenant"][1:])])

    quiet(world, answers)


def test_tenants_that_all_differ_are_no_drift(quiet):
    """The documented lifetime is the default of a setting that each of them has changed."""
    world = World.of(replace(ONE_HOUR, variables=TENANTS), vars={"tenant": "t1"})
    quiet(world, lambda _: world.grant(lives=7200))


def test_a_lifetime_that_goes_to_and_fro_is_no_drift(quiet):
    """Twelve in a row are needed, not twelve in all."""
    world, numbers = World.of(ONE_HOUR), itertools.count()
    quiet(world, lambda _: world.grant(lives=7200 if next(numbers) // 5 % 2 else 3600))


def test_one_token_that_all_are_given_half_way_is_one_piece_of_evidence():
    """Each of them had the documented lifetime before, and now they agree on another."""
    world = World.of(ONE_HOUR, 50)
    world.run(100, lambda _: world.grant())
    assert world.run(50, lambda _: {"access_token": "shared", "expires_in": 1800}) == []


def test_accounts_with_lifetimes_of_their_own_are_no_drift(quiet):
    world, chance = World.of(ONE_HOUR, 40), random.Random(4)
    lives = {name: chance.choice([1800, 3600, 7200]) for name in world.tokens}
    quiet(world, lambda name: world.grant(lives=lives[name]))


def test_a_lifetime_that_the_consent_cuts_short_is_no_drift(quiet):
    """The access token can't outlive the refresh token."""
    world = World.of(ONE_HOUR)
    quiet(world, lambda _: world.grant(lives=600, refresh_token_expires_in=600))


def test_a_provider_that_gives_nothing_new_early_is_left_alone_if_lives_are_short(quiet):
    world = World.of(replace(ONE_HOUR, earliest=10 * MINUTE))
    quiet(world, lambda _: world.grant(lives=600))


@pytest.mark.parametrize(("rotation", "odd"), [(Rotation.NEVER, 0.1), (Rotation.ALWAYS, 0.9)])
def test_a_refresh_token_that_now_and_then_behaves_otherwise_is_no_drift(rotation, odd, quiet):
    """A provider that replaces it may return the former one, for example within its grace."""
    world, chance = World.of(replace(PLAIN, rotation=rotation)), random.Random(5)

    def answers(name: str) -> Body:
        former = world.tokens[name].refresh_token
        assert former is not None
        return (
            world.grant()
            if chance.random() < odd
            else world.grant(refresh_token=former.reveal(), rotates=False)
        )

    quiet(world, answers)


@pytest.mark.parametrize("share", [0.5, 0.2, 0.05])
def test_fields_that_come_and_go_are_no_drift(share, quiet):
    world, chance = World.of(replace(PLAIN, keep=("region",))), random.Random(6)

    def answers(_name: str) -> Body:
        body = world.grant()
        for name in ("notice", "region", "warnings"):
            if chance.random() < share:
                body[name] = "1"
        return body

    quiet(world, answers)


def test_a_field_that_is_withdrawn_soon_is_no_drift():
    world = World.of(PLAIN)
    world.run(50, lambda _: world.grant())
    assert world.run(9, lambda _: world.grant(realm="1")) == []
    assert world.run(1000, lambda _: world.grant()) == []


def test_a_field_that_comes_and_goes_three_times_is_usual():
    """Afterwards it may stay for as long as it likes."""
    world = World.of(PLAIN)
    world.run(50, lambda _: world.grant())
    for _ in range(3):
        assert world.run(9, lambda _: world.grant(realm="1")) == []
        world.run(1, lambda _: world.grant())
    assert world.run(1000, lambda _: world.grant(realm="1")) == []


@pytest.mark.parametrize("block", [3, 60])
def test_fields_of_some_tenants_are_no_drift(block, quiet):
    """Each tenant's replies have always been like this."""
    world = World.of(replace(PLAIN, variables=TENANTS, keep=("region",)), 5 * block)
    for number, name in enumerate(world.tokens):
        world.tokens[name] = replace(world.tokens[name], vars={"tenant": f"t{number // block}"})
    own: dict[str, Body] = {"t1": {"region": "eu"}, "t2": {"realm": "1"}, "t3": {"site": "x", "plan": "y"}}
    quiet(world, lambda name: world.grant(**own.get(world.tokens[name].vars["tenant"], {})))


def test_known_and_temporary_errors_are_no_drift():
    """Those of the standard, of an outage, and of a limit."""
    world, chance = World.of(PLAIN), random.Random(7)
    codes = ["invalid_grant", "invalid_client", "invalid_request", "temporarily_unavailable", "server_error"]
    assert world.run(1000, lambda _: {"error": chance.choice(codes)}, status=400) == []
    assert world.run(100, lambda _: {"error": "backend_gone"}, status=503) == []
    assert world.run(100, lambda _: {"error": "rate_limit_reached"}, status=429) == []


def test_codes_with_a_random_part_are_no_drift():
    """A number of the request is no code, and no text of a reply that looks like a secret is shown."""
    world, chance = World.of(PLAIN), random.Random(8)
    letters = string.ascii_letters + string.digits
    assert (
        world.run(
            3000,
            lambda _: {"error": "e-" + "".join(chance.choices(letters, k=chance.choice([12, 40])))},
            status=400,
        )
        == []
    )


def test_names_that_could_be_secrets_are_not_shown():
    """A reply whose fields are named after its values."""
    world = World.of(PLAIN)
    world.run(50, lambda _: world.grant())
    odd = {"k3jhX92mzQpLw81vNcTb55": 1, "someone@customer.example": 2, "two words": 3}
    assert world.run(100, lambda _: world.grant(**odd)) == []
    for code in ("k3jhX92mzQpLw81vNcTb55", "someone@customer.example", "not a code at all"):
        assert world.run(100, lambda _, code=code: {"error": code}, status=400) == []


def test_a_reply_to_a_repeated_request_is_not_judged():
    """A provider may repeat an earlier answer then, with the remaining life and the former refresh token."""
    world = World.of(replace(ONE_HOUR, rotation=Rotation.ALWAYS))
    world.run(30, lambda _: world.grant())
    for name, one in world.tokens.items():
        world.tokens[name] = replace(one, doubt=Doubt(since=ASKED, tries=1))
    assert world.run(100, lambda _: world.grant(lives=60)) == []


def test_another_grants_lifetime_is_not_judged():
    """The definition documents that of its own grant."""
    definition = replace(ONE_HOUR, grants=frozenset({"client_credentials"}), client_auth=ClientAuth.BASIC)
    world = World.of(definition, grant="client_credentials")
    assert world.run(100, lambda _: world.grant(lives=60)) == []


def test_a_change_of_one_tenant_is_no_drift_of_the_provider(quiet):
    """The others go on as documented."""
    world = World.of(ONE_HOUR, 10)
    world.run(30, lambda _: world.grant())
    quiet(world, lambda name: world.grant(lives=7200 if name == "acme:3" else 3600))


# ---------------------------------------------------------------- bounds


def test_what_is_told_of_one_provider_is_bounded():
    world = World.of(PLAIN)
    found = [
        one
        for number in range(100)
        for _, one in world.run(10, lambda _, code=f"code_{number}": {"error": code}, status=400)
    ]
    assert len(found) == MOST_TOLD


def test_a_code_that_is_rarely_seen_is_forgotten_for_others():
    """So what is remembered of one provider is bounded."""
    world = World.of(PLAIN)
    assert world.run(4, lambda _: {"error": "grant_gone"}, status=400) == []
    for number in range(16):
        assert world.run(1, lambda _, code=f"code_{number}": {"error": code}, status=400) == []
    assert world.run(4, lambda _: {"error": "grant_gone"}, status=400) == []
    assert len(world.run(1, lambda _: {"error": "grant_gone"}, status=400)) == 1


def test_a_reload_of_the_same_definition_reports_nothing_again():
    world = World.of(ONE_HOUR)
    assert len(world.run(100, lambda _: world.grant(lives=1800))) == 1
    world.definition = replace(ONE_HOUR)
    assert world.run(100, lambda _: world.grant(lives=1800)) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["acme:0", "acme:1", "acme:2"]),
            st.dictionaries(
                st.sampled_from(
                    ["access_token", "refresh_token", "expires_in", "error", "region", "\ud800", "x"]
                )
                | st.text(max_size=5),
                st.none()
                | st.booleans()
                | st.integers()
                | st.text(max_size=8)
                | st.just({"a": {"b": ["c"]}}),
                max_size=6,
            ),
            st.sampled_from([200, 400, 401, 500]),
        ),
        max_size=60,
    )
)
def test_every_sequence_of_replies_can_be_judged(replies):
    """The judge stands on the path of each token, so it must not fail."""
    world = World.of(replace(ONE_HOUR, rotation=Rotation.ALWAYS, keep=("region", "x.y")), 3)
    for name, body, status in replies:
        assert len(world.renew(name, body, status)) <= MOST_TOLD
