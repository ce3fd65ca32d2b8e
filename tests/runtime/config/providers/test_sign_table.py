"""The keys of signs and of `success`: what is refused, and by which name."""

import pytest

from daemon.domain.provider import Condition, Reach
from tests.runtime.config.providers.test_definitions import PLAIN, read, refused

FIELD = "field = 'code', values = ['7']"


def test_a_sign_may_have_a_second_condition_a_reach_and_no_field():
    """As the domain knows them; `tenant = true` is the former word for a reach."""
    known = read(
        PLAIN
        + "success = { field = 'code', values = ['0'] }\n"
        + f"misconfigured = [{{ {FIELD}, reach = 'token' }}, {{ {FIELD}, tenant = true }}]\n"
        + f"rejected = [{{ {FIELD}, also = {{ field = 'why', pattern = 'x' }} }}, {{ status = [400], alone = true }}]\n"
        + "unavailable = [{ status = [460] }]\n"
    )
    assert known.success == Condition(field="code", values=frozenset({"0"}))
    assert [sign.reach for sign in known.misconfigured] == [Reach.TOKEN, Reach.TENANT]
    assert known.rejected[0].also.field == "why"
    assert (known.rejected[1].field, known.rejected[1].status) == ("", {400})
    assert known.unavailable[0].status == {460}


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("rejected = [{ status = [400] }]", "rejected", "alone = true"),
        ("rejected = [{ status = [200], alone = true }]", "rejected", "isn't an error"),
        (f"rejected = [{{ {FIELD}, alone = true }}]", "rejected", "has alone"),
        ("unavailable = [{ status = [400], alone = true }]", "unavailable", "has alone"),
        ("unavailable = [{ wait = '1m' }]", "unavailable", "is empty"),
        ("unavailable = [{ values = ['7'], status = [400] }]", "unavailable", "no field"),
        (f"unavailable = [{{ status = [400], also = {{ {FIELD} }} }}]", "unavailable", "no field"),
        (f"unavailable = [{{ {FIELD}, also = {{ field = 'why' }} }}]", "unavailable", "neither values nor"),
        (f"unavailable = [{{ {FIELD}, reach = 'token' }}]", "unavailable", "under misconfigured only"),
        (
            f"misconfigured = [{{ {FIELD}, reach = 'all' }}]",
            "misconfigured.0.reach",
            "token, tenant, provider",
        ),
        (
            f"misconfigured = [{{ {FIELD}, reach = 'token', tenant = true }}]",
            "misconfigured",
            "remove tenant",
        ),
        (
            "rejected = [{ field = 'code', values = ['gone', 'invalid_client'] }]",
            "rejected",
            "condemn every token",
        ),
        ("rejected = [{ field = 'error', pattern = '^invalid_' }]", "rejected", "condemn every token"),
        ("success = { field = 'code' }", "success", "neither values nor"),
        ("success = { values = ['0'] }", "success.field", "is required"),
        ("success = { field = 'code', pattern = '(a+)+b' }", "success.pattern", "takes too long"),
    ],
)
def test_nonsense_is_refused_by_its_key(text, key, words):
    """A sign that matches nothing, or more than its author meant, would cost a consent."""
    assert words in refused(PLAIN + text)[f"providers/trial.toml: {key}"]


@pytest.mark.parametrize(
    "entry",
    [
        "field = 'error', values = ['invalid_client'], also = { field = 'why', values = ['uninstalled'] }",
        "field = 'error_description', pattern = '(?i)invalid'",
        "field = 'error', pattern = '^invalid_(grant|token)$'",
    ],
)
def test_a_dead_grant_may_be_named_beside_the_client_s_error(entry):
    """If something else tells it from a wrong secret, or the words only resemble that error."""
    assert len(read(f"{PLAIN}rejected = [{{ {entry} }}]").rejected) == 1
