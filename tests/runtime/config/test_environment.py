"""Configuration by environment: without a file, and for names that hold a '-'."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from daemon.domain.secret import Secret
from daemon.runtime.config.settings import Settings, SettingsInvalid, load
from daemon.runtime.config.sources import config_path

KEY = hashlib.sha256(b"for these tests").digest()
OLD = hashlib.sha256(b"an older one").digest()
ALL = {
    "REFRESHD_STORE__URI": "mongodb://db.example.com/",
    "REFRESHD_KEYS__ACTIVE": "2026-11",
    "REFRESHD_KEYS__RING__2026_11": base64.b64encode(KEY).decode(),
}
TWITTER = {
    "REFRESHD_PROVIDERS__TWITTER_V2__CLIENT_ID": "us",
    "REFRESHD_PROVIDERS__TWITTER_V2__CLIENT_SECRET": "s3cret",
}
FILE = """
[store]
uri = "embedded"
[keys]
active = "a"
[keys.ring]
a = { env = "KEY" }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: nothing is in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path, text: str, name: str = "config.toml") -> Path:
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    file.chmod(0o600)
    return file


def problems(env: Mapping[str, str], file: Path | None = None) -> dict[str, str]:
    """The place of each problem -> what is said of it."""
    with pytest.raises(SettingsInvalid) as raised:
        load(file, env)
    return {problem.where: f"{problem.what}. {problem.do}" for problem in raised.value.problems}


def over(folder: Path, text: str, **env: str) -> Settings:
    """The settings in a file and in the environment."""
    key = base64.b64encode(KEY).decode()
    return load(written(folder, FILE + text), {"KEY": key, **env})


# ---------------------------------------------------------------- without a file


def test_the_environment_alone_is_a_configuration(folder: Path):
    """Relative paths begin in the current directory then."""
    written(folder, "s3cret\n", "secret")
    settings = load(
        None,
        {
            **ALL,
            "REFRESHD_PROVIDERS__TWITTER_V2__CLIENT_ID": "us",
            "REFRESHD_PROVIDERS__TWITTER_V2__CLIENT_SECRET__FILE": "secret",
        },
    )
    assert settings.providers["twitter-v2"].client_id == "us"
    assert settings.providers["twitter-v2"].client_secret == Secret("s3cret")
    assert settings.keys.key_ring._keys == {"2026-11": KEY}
    assert settings.state_dir == folder / "var"
    assert settings.source == "the environment, without a file,"


def test_an_env_file_alone_is_a_configuration_too(folder: Path):
    """Its variables count as the environment's do."""
    lines = "".join(f"{name}={value}\n" for name, value in {**ALL, **TWITTER}.items())
    assert set(load(None, {}, written(folder, lines, "our.env")).providers) == {"twitter-v2"}


def test_what_is_missing_is_named_by_its_variable(folder: Path):
    """And that there is no file, for those who expect one."""
    none = "environment (there is no configuration file): "
    assert set(problems({"REFRESHD_LOG__LEVEL": "info"})) == {
        none + "REFRESHD_STORE__URI",
        none + "REFRESHD_KEYS__ACTIVE",
        none + "REFRESHD_KEYS__RING__ID",
    }
    assert set(problems({**ALL, "REFRESHD_PROVIDERS__TWITTER_V2__CLIENT_ID": "us"})) == {
        none + "REFRESHD_PROVIDERS__TWITTER___V2__CLIENT_SECRET"
    }


def test_where_there_is_neither_the_sentence_names_both(folder: Path):
    """Variables like REFRESHD_KEY are not configuration."""
    assert problems({"REFRESHD_KEY": "x", "HOME": "/root"}) == {
        "config.toml": "the file does not exist. Specify a file with --config or $REFRESHD_CONFIG (start from"
        " config.example.toml), or set everything in the environment, like REFRESHD_STORE__URI."
    }


def test_a_file_that_is_named_must_be_there(folder: Path):
    """A path with a typo is not silently replaced by the environment."""
    assert set(problems(ALL, folder / "typo.toml")) == {str(folder / "typo.toml")}
    assert set(problems({**ALL, "REFRESHD_CONFIG": "/typo.toml"})) == {"/typo.toml"}


def test_a_file_in_the_usual_places_still_counts(folder: Path):
    """It is read under the environment."""
    system, local = written(folder, FILE, "system.toml"), written(folder, FILE)
    nowhere = folder / "none"
    assert config_path(None, ALL, system=system, local=local) == system
    assert config_path(None, ALL, system=nowhere, local=local) == local
    assert config_path(None, ALL, system=nowhere, local=nowhere) is None


# ---------------------------------------------------------------- names that hold a '-'


@pytest.mark.parametrize("written_as", ["TWITTER_V2", "TWITTER___V2", "TWITTER-V2"])
def test_a_shipped_name_with_a_dash_can_be_set(folder: Path, written_as: str):
    """By '_', by '___', or as it is, where something can set such a variable."""
    secret = {f"REFRESHD_PROVIDERS__{written_as}__CLIENT_SECRET": "x"}
    settings = over(folder, '[providers.twitter-v2]\nclient_id = "us"', **secret)
    assert settings.providers["twitter-v2"].client_secret == Secret("x")


def test_names_in_the_file_and_in_own_definitions_count_too(folder: Path):
    """Whether a definition is known of them or not."""
    written(folder, "token_url = 'https://a.example/'\nclient_auth = 'none'\n", "own/our-books.toml")
    settings = over(
        folder,
        '[definitions]\ndir = "own"\n[providers.our-sso]\ntoken_url = "https://sso.example.com/"\nclient_auth = "none"',
        REFRESHD_PROVIDERS__OUR_SSO__CLIENT_ID="one",
        REFRESHD_PROVIDERS__OUR_BOOKS__CLIENT_ID="two",
    )
    assert {name: each.client_id for name, each in settings.providers.items()} == {
        "our-sso": "one",
        "our-books": "two",
    }


def test_a_name_of_the_environments_own_holds_a_dash_by_three_underscores(folder: Path):
    """Then one underscore means it, too."""
    settings = over(
        folder,
        "",
        REFRESHD_PROVIDERS__ZOHO___EU__LIKE="zoho",
        REFRESHD_PROVIDERS__ZOHO_EU__CLIENT_ID="us",
        REFRESHD_PROVIDERS__ZOHO_EU__CLIENT_SECRET="x",
    )
    assert set(settings.providers) == {"zoho-eu"}


def test_a_name_that_is_known_with_an_underscore_is_that_one(folder: Path):
    """Nothing is guessed where the very name exists."""
    sso = '[providers.{}]\ntoken_url = "https://sso.example.com/"\nclient_auth = "none"\nclient_id = "file"\n'
    settings = over(
        folder, sso.format("a_b") + sso.format("a-b"), REFRESHD_PROVIDERS__A_B__CLIENT_ID="variable"
    )
    assert settings.providers["a_b"].client_id == "variable"
    assert settings.providers["a-b"].client_id == "file"


def test_a_name_that_could_be_two_is_refused_and_both_are_named(folder: Path):
    """Else a secret could go to the wrong one."""
    sso = '[providers.{}]\ntoken_url = "https://sso.example.com/"\nclient_auth = "none"\nclient_id = "file"\n'
    file = written(folder, FILE + sso.format("a-b_c") + sso.format("a_b-c"))
    env = {"KEY": base64.b64encode(KEY).decode()}
    variable = "REFRESHD_PROVIDERS__A_B_C__CLIENT_ID"
    said = problems({**env, variable: "x"}, file)
    assert set(said) == {f"environment: {variable}"}
    assert said[f"environment: {variable}"].startswith(
        "could mean any of a-b_c, a_b-c. Write ___ for each '-'"
    )
    settings = load(file, {**env, "REFRESHD_PROVIDERS__A___B_C__CLIENT_ID": "x"})
    assert settings.providers["a-b_c"].client_id == "x"


def test_keys_are_found_by_the_ids_in_the_file_and_by_the_active_one(folder: Path):
    """Capital letters too, but small ones first; any other id is written with '___'."""
    settings = over(
        folder,
        'A = { env = "KEY" }\nOld-One = { env = "KEY" }',
        REFRESHD_KEYS__ACTIVE="2026-Nov",
        REFRESHD_KEYS__RING__2026_NOV=KEY.hex(),
        REFRESHD_KEYS__RING__OLD_ONE=OLD.hex(),
        REFRESHD_KEYS__RING__2026___10=OLD.hex(),
        REFRESHD_KEYS__RING__A=OLD.hex(),
    )
    assert settings.keys.key_ring._keys == {
        "a": OLD,
        "A": KEY,
        "2026-Nov": KEY,
        "Old-One": OLD,
        "2026-10": OLD,
    }


def test_two_variables_for_one_key_contradict_each_other(folder: Path):
    """Whichever is sorted first: no value is dropped silently."""
    file = written(folder, FILE)
    env = {"KEY": base64.b64encode(KEY).decode(), **TWITTER}
    again = "REFRESHD_PROVIDERS__TWITTER___V2__CLIENT_ID"
    assert problems({**env, again: "x"}, file) == {
        f"environment: {again}": "another variable sets the same key. Unset one of the two."
    }
    above = "REFRESHD_PROVIDERS__TWITTER___V2"
    assert f"environment: {above}" in problems({**env, above: "x"}, file)


def test_the_environment_wins_over_an_env_file_however_the_name_is_written(folder: Path):
    """They mean one provider."""
    file = written(folder, FILE)
    more = written(folder, "REFRESHD_PROVIDERS__TWITTER___V2__CLIENT_ID=them\n", "our.env")
    settings = load(file, {"KEY": base64.b64encode(KEY).decode(), **TWITTER}, more)
    assert settings.providers["twitter-v2"].client_id == "us"
