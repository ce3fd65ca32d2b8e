"""`like`: a second client at a provider whose definition is known."""

import base64
import hashlib
from pathlib import Path

import pytest

from daemon.domain.secret import Secret
from daemon.runtime.config.providers.definitions import shipped
from daemon.runtime.config.settings import Settings, SettingsInvalid, load

KEY = base64.b64encode(hashlib.sha256(b"for these tests").digest()).decode()
LEAST = f'store.uri = "embedded"\nkeys = {{ active = "a", ring = {{ a = "{KEY}" }} }}\n'
EU = '[providers.zoho-eu]\nlike = "zoho"\nclient_id = "eu"\nclient_secret = "x"\n'
OWN = 'token_url = "https://sso.example.com/token"\nclient_auth = "none"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "config.toml"
    made.touch(mode=0o600)
    return made


def read(file: Path, text: str) -> Settings:
    file.write_text(LEAST + text)
    return load(file, {})


def refused(file: Path, text: str) -> dict[str, str]:
    """The problems: the key's path -> all that is said."""
    with pytest.raises(SettingsInvalid) as raised:
        read(file, text)
    return {
        problem.where.removeprefix(f"{file}: "): f"{problem.what}. {problem.do}"
        for problem in raised.value.problems
    }


def test_a_second_client_has_the_definition_and_its_own_terms(file: Path):
    """Name, client, concurrency and variables are its own; all else is the other's."""
    settings = read(
        file,
        EU
        + 'concurrency = 3\nwindow = "9m"\nvariables.accounts-server.default = "https://accounts.zoho.eu"\n'
        + '[providers.zoho]\nclient_id = "com"\nclient_secret = "y"\n',
    )
    eu, com, known = settings.providers["zoho-eu"], settings.providers["zoho"], shipped()["zoho"]
    assert (eu.name, eu.like, eu.client_id, eu.client_secret) == ("zoho-eu", "zoho", "eu", Secret("x"))
    assert (eu.share, eu.most, com.most) == (3, 3, None)
    assert (com.name, com.like, com.client_id) == ("zoho", None, "com")
    assert com.definition == known
    assert eu.definition.variables["accounts-server"].default == "https://accounts.zoho.eu"
    assert eu.definition.variables["accounts-server"].pattern == known.variables["accounts-server"].pattern
    assert (eu.definition.token_url, eu.definition.unavailable) == (known.token_url, known.unavailable)
    assert eu.definition.min_interval == known.min_interval


def test_what_the_configuration_says_of_the_other_is_not_taken_over(file: Path):
    """Only its definition is: no client, host or parameter of another section."""
    settings = read(
        file,
        EU
        + '[providers.zoho]\nclient_id = "com"\nclient_secret = "y"\nparams.x = "1"\nallow_private = true\n',
    )
    eu = settings.providers["zoho-eu"]
    assert (eu.definition.params, eu.allow_private) == (shipped()["zoho"].params, False)


def test_a_definition_of_the_operators_own_can_be_taken(file: Path):
    """A file in the directory of [definitions]."""
    own = file.parent / "own"
    own.mkdir()
    (own / "intranet.toml").write_text(OWN)
    settings = read(
        file, '[definitions]\ndir = "own"\n[providers.branch]\nlike = "intranet"\nclient_id = "b"\n'
    )
    assert settings.providers["branch"].definition.token_url == "https://sso.example.com/token"


def test_what_it_is_like_must_be_a_known_definition(file: Path):
    """The sentence names those that come close; and nothing else is called missing."""
    for name, do in (
        ("zohoo", "Did you mean zoho or zoom or whoop?"),
        ("qqq", "`refreshd providers` lists them."),
    ):
        said = refused(file, EU.replace('"zoho"', f'"{name}"'))
        assert said == {"providers.zoho-eu.like": f"is not the name of a known definition. {do}"}
    assert set(refused(file, EU.replace('"zoho"', '["zoho"]'))) == {"providers.zoho-eu.like"}


def test_there_is_neither_chain_nor_cycle(file: Path):
    """Each is like a definition, never like a section that is like another."""
    chain = EU + '[providers.zoho-in]\nlike = "zoho-eu"\nclient_id = "in"\nclient_secret = "x"\n'
    assert refused(file, chain) == {
        "providers.zoho-in.like": 'is the name of a provider that itself uses like. Write like = "zoho".'
    }
    cycle = '[providers.a]\nlike = "b"\nclient_id = "a"\n[providers.b]\nlike = "a"\nclient_id = "b"\n'
    assert set(refused(file, cycle)) == {"providers.a.like", "providers.b.like"}
    assert set(refused(file, '[providers.a]\nlike = "a"\nclient_id = "a"\n')) == {"providers.a.like"}


def test_a_provider_that_is_defined_in_the_configuration_can_not_be_taken(file: Path):
    """Its section holds its client, too: the sentence says where to put the definition."""
    said = refused(
        file,
        f'[providers.sso]\n{OWN}client_id = "a"\n[providers.branch]\nlike = "sso"\nclient_id = "b"\n',
    )
    assert set(said) == {"providers.branch.like"}
    assert "its own file" in said["providers.branch.like"]


def test_a_known_name_is_like_nothing_else(file: Path):
    """Xero's tokens must not go to Zoho by a slip."""
    said = refused(file, EU.replace("zoho-eu", "xero"))
    assert said == {
        "providers.xero.like": "xero has a definition of its own. Remove like, or choose another name."
    }
