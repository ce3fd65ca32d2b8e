"""The configured providers, which all parts of the daemon share."""

from collections.abc import Mapping

import pytest

from daemon.domain.provider import Definition, Provider
from daemon.domain.providers import Providers


def provider(name: str, client_id: str = "me") -> Provider:
    definition = Definition(name=name, title=name, token_url=f"https://{name}.example/token")
    return Provider(definition=definition, client_id=client_id)


def test_a_removed_provider_is_known_and_not_configured():
    """The reply to a request that was sent before may come afterwards. Nothing new is sent."""
    acme, other = provider("acme"), provider("other")
    providers = Providers({"acme": acme})
    known = providers.known
    providers.replace({"other": other})
    assert dict(providers) == {"other": other}
    assert known == {"acme": acme, "other": other}
    assert "acme" not in providers
    with pytest.raises(KeyError):
        providers["acme"]


def test_a_changed_provider_is_known_as_it_is_configured_now():
    """A request in flight is answered for the client that is in use."""
    providers = Providers({"acme": provider("acme")})
    providers.replace({"acme": (changed := provider("acme", "another"))})
    assert (providers["acme"], providers.known["acme"]) == (changed, changed)


def test_a_follower_has_the_providers_from_the_start_and_after_each_change():
    """In the order in which they follow, and with all of the providers each time."""
    providers = Providers({"acme": provider("acme")})
    seen: list[tuple[str, list[str]]] = []

    def follower(name: str):
        def use(configured: Mapping[str, Provider]) -> None:
            seen.append((name, sorted(configured)))

        return use

    providers.follow(follower("first"))
    providers.follow(follower("second"))
    providers.replace({"other": provider("other"), "third": provider("third")})
    assert seen == [
        ("first", ["acme"]),
        ("second", ["acme"]),
        ("first", ["other", "third"]),
        ("second", ["other", "third"]),
    ]


def test_a_later_change_of_the_argument_changes_nothing():
    """Only `replace` reaches the followers."""
    configured = {"acme": provider("acme")}
    providers = Providers(configured)
    providers.replace(configured)
    configured.clear()
    assert list(providers) == ["acme"]
