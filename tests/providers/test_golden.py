"""The exact request of each definition, byte by byte as it leaves the machine."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from daemon.adapters.token_endpoint.endpoint import TokenEndpoint
from daemon.domain.due import Moment, Timing, first_due, first_look
from daemon.domain.provider import Grant
from daemon.domain.request import refresh_request
from daemon.domain.token_url import NotSendable, token_url
from daemon.runtime.config.providers.definitions import shipped
from tests.providers import samples
from tests.providers.golden import FILES, WATCHED, golden
from tests.providers.wire import CLOCK, endpoint

AGAIN = "if that is meant: python -m tests.providers.golden, and look at the diff"
ELSEWHERE = {  # where a token without variables is renewed
    "amazon-ads": "https://api.amazon.com/auth/o2/token",
    "amazon-selling-partner": "https://api.amazon.com/auth/o2/token",
    "clover": "https://api.clover.com/oauth/v2/refresh",
    "docusign": "https://account.docusign.com/oauth/token",
    "exact-online": "https://start.exactonline.nl/api/oauth2/token",
    "mercadolibre": "https://api.mercadolibre.com/oauth/token",
    "microsoft": "https://login.microsoftonline.com/common/oauth2/v2.0/token",
    "salesforce": "https://login.salesforce.com/services/oauth2/token",
    "smartsheet": "https://api.smartsheet.com/2.0/token",
    "zoho": "https://accounts.zoho.com/oauth/v2/token",
}


@pytest.fixture
async def through() -> AsyncIterator[TokenEndpoint]:
    async with endpoint() as opened:
        yield opened


@pytest.mark.parametrize("name", shipped())
async def test_the_request_is_the_golden_one(through: TokenEndpoint, name: str) -> None:
    """Method, URL, headers and body, as they come in on the other side."""
    assert await golden(name, through=through) == (FILES / f"{name}.txt").read_text("utf-8"), AGAIN


def test_each_file_belongs_to_a_definition() -> None:
    """And the other way round."""
    assert sorted(file.stem for file in FILES.iterdir()) == sorted(shipped())


def test_a_sample_is_no_default() -> None:
    """What a definition takes for granted would hide a variable that is not filled in."""
    for name, known in shipped().items():
        assert samples.VARIABLES.get(name, {}).keys() == known.variables.keys()
        for variable, value in samples.VARIABLES.get(name, {}).items():
            assert value != known.variables[variable].default


@pytest.mark.parametrize("name", shipped())
def test_a_token_without_variables_is_renewed_at_the_usual_place_or_not_at_all(name: str) -> None:
    """A default where there is one, else the request isn't built."""
    known = shipped()[name]
    if name in ELSEWHERE:
        assert token_url(samples.provider(name), {}) == ELSEWHERE[name]
    elif known.variables and known.grant is not Grant.NONE:
        with pytest.raises(NotSendable, match="has no variable"):
            refresh_request(samples.provider(name), samples.token(name, vars={}), now=CLOCK.now())
    else:
        assert "${" not in known.token_url


@pytest.mark.parametrize("name", [name for name, known in shipped().items() if known.grant is Grant.NONE])
def test_what_nothing_renews_is_never_sent(name: str) -> None:
    """No request can be built of it, and it never comes due: it is watched."""
    provider, token, now = samples.provider(name), samples.token(name, expires_at=CLOCK.now()), CLOCK.now()
    assert (FILES / f"{name}.txt").read_text("utf-8") == WATCHED
    with pytest.raises(NotSendable):
        refresh_request(provider, token, now=now)
    assert first_due(provider, token, moment=Moment(now, 0.5, Timing())) is None
    for due in (None, now):
        planned = first_look(provider, replace(token, due_at=due), moment=Moment(now, 0.5, Timing()))
        assert planned is not None
        assert planned.due_at is None
