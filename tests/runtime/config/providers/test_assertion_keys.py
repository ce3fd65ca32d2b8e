"""What is accepted about signed claims, and what is refused by which key."""

import json
import tomllib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from daemon.domain.provider import Grant
from daemon.runtime.config.problems import SettingsInvalid
from daemon.runtime.config.providers.definitions import read_definition
from tests.runtime.config.providers.test_provider_settings import Folder

PEM = (
    rsa.generate_private_key(65537, 2048)
    .private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    .decode()
)
PLAIN = 'token_url = "https://sso.example.com/token"\nclient_auth = "omitted"\ngrant = "jwt_bearer"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.write("key.pem", PEM)
    return made


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        ('assertion.claims.exp = "1"', "assertion.claims.exp"),
        ("assertion.claims.aud = 5", "assertion.claims.aud"),
        ('assertion.lifetime = "2h"', "assertion.lifetime"),
        ('assertion = { lifetime = "1m", backdate = "1m" }', "assertion.backdate"),
        ('assertion.claims.sub = "${user}"', "variables.user"),
        ('authorize_url = "https://sso.example.com/authorize"', "authorize_url"),
        ('max_age = "90d"', "max_age"),
    ],
)
def test_what_can_not_be_signed_is_refused(keys: str, where: str) -> None:
    """At its own key."""
    with pytest.raises(SettingsInvalid) as raised:
        read_definition("p", tomllib.loads(PLAIN + keys))
    assert [one.where for one in raised.value.problems] == [f"providers/p.toml: {where}"]


@pytest.mark.parametrize(
    ("section", "keys", "where"),
    [
        ("google-service-account", 'client_id = "me"', "client_key"),
        ("google-service-account", 'client_key = { file = "key.pem" }', "client_id"),
        ("google-delegation", 'client_id = "me"\nclient_key = { file = "key.pem" }', "subjects"),
        ("google-delegation", 'client_id = "me"\nclient_key = { file = "key.pem" }\nsubjects = ["("]', "subjects.0"),
        ("google-service-account", 'client_id = "me"\nclient_key = { file = "key.pem" }\nclient_secret = "s3"', "client_secret"),
        ("box-jwt", 'client_id = "me"\nclient_key = { file = "key.pem" }\nsubjects = ["1"]', "client_secret"),
        ("github-app", 'client_id = "me"', "client_key"),
        ("github-app", 'client_id = "me"\nclient_key = { file = "none.json" }', "client_key"),
    ],
)  # fmt: skip
def test_a_section_lacks_nothing(folder: Folder, section: str, keys: str, where: str) -> None:
    """Key, client, users and secret, each where it is needed and nowhere else."""
    folder.write("none.json", '{"type": "authorized_user"}')
    found = folder.refused(f"[providers.{section}]\n{keys}")
    assert next(iter(found)).startswith(f"providers.{section}.{where.partition('.')[0]}")
    assert "s3" not in "".join(found.values())


def test_googles_file_names_the_client_and_the_operator_has_the_last_word(folder: Folder) -> None:
    """A client_id in the section counts before the file's."""
    content = {"private_key": PEM, "private_key_id": "k9", "client_email": "svc@project.example"}
    folder.write("key.json", json.dumps(content))
    section = '[providers.google-service-account]\nclient_key = { file = "key.json" }\n'
    [known] = folder.load(section).providers.values()
    assert known.client_id == "svc@project.example"
    assert known.sign_claims is not None
    [own] = folder.load(f'{section}client_id = "other"').providers.values()
    assert own.client_id == "other"


def test_nothing_else_needs_no_token_url(folder: Folder) -> None:
    """Keys are never asked for, and a section of their own needs not even a client."""
    [keys] = folder.load('[providers.mailer]\nlike = "api-key"\nmax_age = "30d"').providers.values()
    assert (keys.definition.grant, keys.definition.token_url) == (Grant.NONE, "")
    for grant in ("", 'grant = "client_credentials"'):
        with pytest.raises(SettingsInvalid) as raised:
            read_definition("p", tomllib.loads(f'client_auth = "none"\n{grant}'))
        assert [one.where for one in raised.value.problems] == ["providers/p.toml: token_url"]
