"""The populations of the simulated day: small and large, clustered and even, with every kind of bad token."""

from collections.abc import Mapping
from datetime import timedelta

from daemon.domain.provider import Definition, Grant
from daemon.domain.reply import Reply
from daemon.sandbox import recorded
from tests.refreshing.fakes import NOON
from tests.refreshing.simulation import BAD, HOUR, MINUTE, Population, Spell

AT_ONE_TIME = timedelta(seconds=30)
ONE_EACH = dict.fromkeys(BAD, 1)
TROUBLES = (
    Spell(kind="outage", begins=2 * HOUR, lasts=HOUR),
    # From here on nearly all fall due together, every 54 minutes.
    Spell(kind="page", begins=3.9 * HOUR, lasts=3 * MINUTE),
    Spell(kind="timeouts", begins=4.8 * HOUR, lasts=3 * MINUTE),
    Spell(kind="throttling", begins=5.6 * HOUR, lasts=10 * MINUTE, share=0.5),
    Spell(kind="refusals", begins=6.5 * HOUR, lasts=4 * MINUTE),
    Spell(kind="outage", begins=7.3 * HOUR, lasts=20 * MINUTE, share=0.5),
)

POPULATIONS: Mapping[str, Population] = {
    "30 good alone": Population(good=30, lasts=6 * HOUR),
    "3 bad beside 30": Population(good=30, bad={"unauthorized client": 3}, lasts=12 * HOUR),
    "3 of each kind beside 30": Population(good=30, bad=dict.fromkeys(BAD, 3), lasts=12 * HOUR),
    "one of each kind beside 100, all due together": Population(
        good=100, bad=ONE_EACH, spread=AT_ONE_TIME, lasts=12 * HOUR
    ),
    "1 % of each kind, turning bad together": Population(
        good=500, bad=dict.fromkeys(BAD, 5), turns=HOUR, lasts=4 * HOUR, share=64
    ),
    "a customer of 25 leaves": Population(
        good=30, bad={"unauthorized client": 25}, turns=3 * HOUR, spread=AT_ONE_TIME, lasts=12 * HOUR
    ),
    "a customer of 100 is suspended": Population(
        good=300, bad={"own words": 100}, turns=HOUR, lasts=4 * HOUR
    ),
    "a customer of 60 revokes all": Population(
        good=300, bad={"dead": 60}, turns=HOUR, spread=10 * MINUTE, lasts=4 * HOUR
    ),
    "foreign clients and lives of two minutes": Population(
        good=20, bad={"foreign client": 3}, lifetime=2 * MINUTE, spread=2 * MINUTE, lasts=2 * HOUR
    ),
    "many troubles of the provider": Population(good=200, bad=ONE_EACH, spells=TROUBLES, lasts=9 * HOUR),
    "two replicas that restart, in trouble": Population(
        good=200, bad=ONE_EACH, spells=TROUBLES, replicas=2, restarts=12, lasts=9 * HOUR
    ),
    "tenants with a page or an error of their own": Population(
        good=60, bad={"page of its tenant": 10, "error with 200": 10, "errors with 200": 10}, lasts=12 * HOUR
    ),
    "each minute one more with a foreign client": Population(
        good=12, bad={}, stream=("foreign client", MINUTE), lasts=6 * HOUR
    ),
    "each minute one more that is refused": Population(
        good=12, bad={}, stream=("unauthorized client", MINUTE), lasts=6 * HOUR
    ),
    "each minute one more that is dead": Population(good=12, bad={}, stream=("dead", MINUTE), lasts=6 * HOUR),
    "more bad than good": Population(
        good=20, bad={"unauthorized client": 40, "own words": 40, "no answer": 20}, lasts=12 * HOUR
    ),
}


def of_definition(
    definition: Definition, variables: Mapping[str, str], dead: Mapping[str, Reply] | None = None
) -> Population:
    """A small provider of this kind, with a 400 of three kinds for its bad tokens, and a dead token for each of its own
    wordings. Where every token presents the same client and nothing else, none can be told from the others.
    """
    alike = definition.grant.issues_anew or definition.grant is Grant.NONE
    bad = {"unauthorized client": 3, "own words": 3, "invalid request": 3, **dict.fromkeys(dead or {}, 1)}
    return Population(
        good=20,
        bad={} if alike else bad,
        says=dead or {},
        definition=definition,
        variables=variables,
        lasts=4 * HOUR,
        lifetime=HOUR,
    )


def dead_words(name: str) -> Mapping[str, Reply]:
    """How the provider `name` refuses a dead grant, in each of its wordings, as the sandbox has them."""
    wordings = recorded.dialect(name).refusals.get("invalid_grant", ())
    said = [
        one.reply({"detail": "the refresh token is unknown, spent, expired or revoked"}) for one in wordings
    ]
    return {
        f"dead, wording {number}": Reply(
            status=one.status,
            body=one.body,
            content_type=one.content_type,
            retry_after=one.headers.get("Retry-After"),
            whole=True,
            asked_at=NOON,
        )
        for number, one in enumerate(said)
    }
