"""A token that a reply repeats where it would be stored unencrypted."""

import pytest

from daemon.domain.answer import Granted, Unparsed
from daemon.domain.provider import Rotation
from tests.domain.replies import GRANT, answer

SECRETS = ["new-access", "new-refresh", "short-refresh", "short-access"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("value", ["{}", "read {} write", "Bearer {}"])
def test_no_field_that_holds_a_token_is_stored(secret, value):
    """Alone or among other words; the grant itself is not lost."""
    echo = value.format(secret)
    body = {**GRANT, "scope": echo, "region": echo, "token_type": echo, "site": "eu"}
    granted = answer(body, known={"keep": ("region", "site")})
    assert isinstance(granted, Granted)
    assert granted.access_token.reveal() == "new-access"
    assert (granted.scope, granted.token_type, granted.extra) == (None, None, {"site": "eu"})


def test_a_list_of_scopes_is_searched_as_well():
    granted = answer({**GRANT, "scope": ["read", "new-refresh"]})
    assert isinstance(granted, Granted)
    assert granted.scope is None


def test_what_holds_no_token_stays():
    granted = answer({**GRANT, "scope": "read write", "region": "new"}, known={"keep": ("region",)})
    assert isinstance(granted, Granted)
    assert (granted.scope, granted.token_type, granted.extra) == ("read write", "Bearer", {"region": "new"})


def test_the_readable_part_of_a_withheld_reply_is_searched_as_well():
    body = {"access_token": "new-access", "scope": "new-access"}
    withheld = answer(body, known={"rotation": Rotation.ALWAYS})
    assert isinstance(withheld, Unparsed)
    assert withheld.granted is not None
    assert withheld.granted.scope is None


def test_a_short_token_hides_no_words():
    """One of few characters may be a part of any word."""
    granted = answer({**GRANT, "access_token": "a", "scope": "read all"})
    assert isinstance(granted, Granted)
    assert granted.scope == "read all"
