"""The section of a configuration that `refreshd sandbox` prints: a newcomer pastes it, and connects."""

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from daemon.commands.sandbox import section_of
from daemon.domain.provider import ClientAuth, Provider
from daemon.domain.revocation_request import revocation_of
from daemon.runtime.config.providers.definitions import shipped
from daemon.runtime.config.settings import load
from daemon.sandbox import Sandbox, SandboxOptions, recorded

LINES = {name: Sandbox(SandboxOptions(name=name, port=9466)).describe() for name in recorded.names()}
LEAST = f"""
[store]
uri = "mongodb://127.0.0.1"
[keys]
active = "a"
[keys.ring]
a = "{base64.b64encode(os.urandom(32)).decode()}"
"""


@pytest.fixture(scope="module")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Provider]:
    """The providers of one configuration with all sections."""
    file = Path(tmp_path_factory.mktemp("all"), "config.toml")
    file.touch(mode=0o600)
    sections = [section_of(name, line) for name, line in LINES.items()]
    file.write_text("\n".join([LEAST, *sections]))
    return load(file, {}).providers


@pytest.mark.parametrize("name", LINES)
def test_the_printed_section_is_a_provider_with_all_of_its_endpoints(
    providers: Mapping[str, Provider], name: str
) -> None:
    """Those of the sandbox, and none of the provider that it imitates."""
    line, provider = LINES[name], providers[name]
    known = provider.definition
    assert provider.client_id == line["client_id"]
    secret = provider.client_secret
    printed = None if known.client_auth is ClientAuth.NONE else line["client_secret"]
    assert (secret and secret.reveal()) == printed
    assert (provider.sign_claims is not None) is ("client_key" in line)
    urls = {
        "token_url": known.token_url,
        "authorize_url": known.authorize_url,
        "device_url": known.device_url,
    }
    assert urls == {key: line[key] for key in urls}
    revocation = revocation_of(known)
    revoke_url = None if revocation is None else revocation.url or known.revoke_url
    assert (revoke_url or "").replace("${token}", "{token}") == (line["revoke_url"] or "")
    assert all(urlsplit(url).hostname == "127.0.0.1" for url in [*urls.values(), revoke_url] if url)


def test_another_setting_of_a_provider_has_its_definition(providers: Mapping[str, Provider]) -> None:
    """As an operator writes it for a second client."""
    assert 'like = "okta"' in section_of("okta-rotating", LINES["okta-rotating"])
    assert providers["okta-rotating"].definition.title == shipped()["okta"].title
