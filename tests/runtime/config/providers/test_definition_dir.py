"""`[definitions] dir`: files of the operator's own, over the shipped definitions and beside them."""

import hashlib
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.domain.provider import AssertionAudience, Provider, Rotation
from daemon.runtime.config.providers.definition_dir import laid_over
from daemon.runtime.config.providers.definition_table import DefinitionTable
from daemon.runtime.config.providers.definitions import shipped
from daemon.runtime.config.settings import Settings, SettingsInvalid, load

LEAST = """
[store]
uri = "embedded"
[keys]
active = "a"
[keys.ring]
a = { env = "KEY" }
"""
ENVIRONMENT = {"KEY": hashlib.sha256(b"for these tests").hexdigest()}
CLIENT = 'client_id = "me"\nclient_secret = { env = "KEY" }\n'
ACME = 'token_url = "https://acme.example/token"\nclient_auth = "basic"\n'


class Folder:
    """A configuration, and a directory of definitions beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.definitions = path / "own"
        self.definitions.mkdir()

    def define(self, name: str, text: str) -> None:
        Path(self.definitions, name).write_text(text)

    def load(self, text: str = "", *, directory: str = "own", **env: str) -> Settings:
        file = Path(self.path, "config.toml")
        file.write_text(f'{LEAST}[definitions]\ndir = "{directory}"\n{text}')
        return load(file, {**ENVIRONMENT, **env})

    def configured(self, name: str, text: str = CLIENT) -> Provider:
        return self.load(f"[providers.{name}]\n{text}").providers[name]

    def refused(self, text: str = "", *, directory: str = "own") -> dict[str, str]:
        with pytest.raises(SettingsInvalid) as raised:
            self.load(text, directory=directory)
        return {
            problem.where.removeprefix(f"{self.path}/"): f"{problem.what} {problem.do}"
            for problem in raised.value.problems
        }


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_file_of_ones_own_is_a_definition_like_a_shipped_one(folder: Folder):
    """One file and no code: only the client is left for the configuration."""
    folder.define("acme.toml", ACME + 'title = "Acme"\nrotation = "always"\n')
    acme = folder.configured("acme")
    assert (acme.name, acme.definition.title, acme.client_id) == ("acme", "Acme", "me")
    assert acme.definition.rotation is Rotation.ALWAYS


def test_a_file_with_a_shipped_name_corrects_that_definition_key_by_key(folder: Folder):
    """What it does not say stays as shipped, inside tables too."""
    folder.define("microsoft.toml", 'grace = "1m"\nvariables.tenant.default = "contoso.com"\n')
    found = folder.configured("microsoft").definition
    assert (found.grace, found.variables["tenant"].default) == (timedelta(minutes=1), "contoso.com")
    assert found.variables["tenant"].pattern == shipped()["microsoft"].variables["tenant"].pattern
    assert shipped()["microsoft"].variables["tenant"].default == "common"


def test_the_configuration_stands_over_a_file_of_ones_own(folder: Folder):
    """The last word is the provider's section."""
    folder.define("acme.toml", ACME + 'grace = "1m"\nkeep = ["id"]\n')
    found = folder.configured("acme", CLIENT + 'grace = "2m"\n').definition
    assert (found.grace, found.keep) == (timedelta(minutes=2), ("id",))


def test_a_token_url_of_ones_own_drops_the_variables_that_it_does_not_use(folder: Folder):
    """As it does in the configuration."""
    folder.define("microsoft.toml", 'token_url = "https://sso.example.com/token"\n')
    assert folder.configured("microsoft").definition.variables == {}


def test_a_token_url_of_ones_own_drops_the_addresses_of_the_shipped_server(folder: Folder):
    """Its pages belong to another server, and a revocation there would show it this server's refresh token."""
    folder.define("gitlab.toml", 'token_url = "https://git.example.com/oauth/token"\n')
    found = folder.configured("gitlab").definition
    shown = (found.authorize_url, found.device_url, found.manage_url, found.revoke_url, found.revoke)
    assert shown == (None, None, None, None, None)


def test_no_address_of_the_shipped_server_stays_beside_a_token_url_of_ones_own():
    """Whichever key holds it: an address that is added later, too."""
    addresses = {"issuer"} | {key.name for key in fields(DefinitionTable) if key.name.endswith("_url")}
    shipped_file = dict.fromkeys(addresses, "https://acme.example/x")
    left = laid_over(shipped_file, {"token_url": "https://own.example/token"})
    assert {key: left[key] for key in addresses & set(left)} == {"token_url": "https://own.example/token"}


SERVER = """
issuer = "https://acme.example"
assertion_audience = "issuer"
authorize_url = "https://acme.example/authorize"
exchange_url = "https://acme.example/code"
retires = 2027-01-31
headers.X-Tenant = "${tenant}"
params.user = "${user}"
variables.tenant.pattern = "[a-z]+"
variables.user = { kind = "value", pattern = "[a-z@]+" }
"""


def test_a_token_url_of_ones_own_drops_what_else_is_that_servers_and_keeps_the_form_of_the_request(
    folder: Folder,
):
    """Its issuer, its codes' address and its retirement go; headers and parameters keep their variables."""
    folder.define("acme.toml", ACME + SERVER)
    assert folder.configured("acme", CLIENT).definition.issuer == "https://acme.example"
    found = folder.configured("acme", CLIENT + 'token_url = "https://own.example/token"\n').definition
    assert (found.issuer, found.exchange_url, found.retires) == (None, None, None)
    assert found.assertion_audience is AssertionAudience.TOKEN_URL
    assert set(found.variables) == {"tenant", "user"}


@pytest.mark.parametrize("page", ["", 'authorize_url = "https://own.example/authorize"\n'])
def test_a_token_url_of_ones_own_drops_what_the_shipped_servers_callback_brings(folder: Folder, page: str):
    """A variable that is gone can't come with a callback, with or without a page of the own server."""
    folder.define("zoho.toml", f'token_url = "https://own.example/token"\n{page}')
    assert shipped()["zoho"].callback_variables
    assert folder.configured("zoho").definition.callback_variables == ()


def test_the_addresses_of_ones_own_server_are_those_of_the_file(folder: Folder):
    """What the file says about its server stays, and how a revocation is sent with it."""
    folder.define("acme.toml", ACME + 'revoke = { url = "https://acme.example/r", token = "access" }\n')
    own = 'token_url = "https://own.example/token"\nrevoke_url = "https://own.example/r"\n'
    found = folder.configured("acme", CLIENT + own).definition
    assert found.revoke_url == "https://own.example/r"
    assert found.revoke is not None
    assert (found.revoke.url, found.revoke.token) == (None, "access")


def test_a_token_url_that_repeats_the_shipped_one_changes_nothing(folder: Folder):
    """It is the same server."""
    folder.define("gitlab.toml", f'token_url = "{shipped()["gitlab"].token_url}"\n')
    assert folder.configured("gitlab").definition.revoke_url == shipped()["gitlab"].revoke_url


def test_every_file_is_checked_even_where_no_provider_is_configured(folder: Folder):
    """Each problem is named by its file and key, all of them at once, beside those of the configuration."""
    folder.define("acme.toml", ACME + 'grace = "soon"\nrotaton = "never"\n')
    folder.define("bolt.toml", 'token_url = "http://bolt.example/token"\nclient_auth = "post"\n')
    folder.define("corp.toml", 'client_auth = "post"\n')
    folder.define("dots.toml", "title = dots\n")
    folder.define("Xero.toml", ACME)
    folder.define("xero.toml", 'rejected = [{ field = "error" }]\n')
    problems = folder.refused("[log]\nlevel = 'loud'\n")
    assert set(problems) == {
        "own/acme.toml: grace",
        "own/acme.toml: rotaton",
        "own/bolt.toml: token_url",
        "own/corp.toml: token_url",
        "own/dots.toml: line 1",
        "own/Xero.toml",
        "own/xero.toml: rejected",
        "config.toml: log.level",
    }
    assert "mean rotation" in problems["own/acme.toml: rotaton"]
    assert "required" in problems["own/corp.toml: token_url"]


def test_a_provider_over_a_broken_file_adds_no_second_problem(folder: Folder):
    """Mend the file first: until then nothing can be said about what stands over it."""
    folder.define("acme.toml", 'token_url = "https://acme.example/token"\n')
    assert set(folder.refused(f"[providers.acme]\n{CLIENT}")) == {"own/acme.toml: client_auth"}


def test_a_client_does_not_belong_into_a_definition(folder: Folder):
    """A definition can be shown to anybody."""
    folder.define("acme.toml", ACME + 'client_secret = "cAnArY"\n')
    problems = folder.refused()
    assert set(problems) == {"own/acme.toml: client_secret"}
    assert "cAnArY" not in str(problems)


def test_a_token_url_that_could_lead_astray_is_refused_there_too(folder: Folder):
    """It may fill a host from the database, like any definition."""
    text = 'token_url = "https://${shop}.acme.example/token"\nclient_auth = "post"\n'
    folder.define("acme.toml", text + "[variables.shop]\npattern = '[a-z]+'\n")
    assert set(folder.refused()) == {"own/acme.toml: domains"}


@pytest.mark.parametrize("name", ["README.md", ".acme.toml", "acme.toml~", "acme.json"])
def test_what_is_not_called_like_a_definition_is_left_alone(folder: Folder, name: str):
    """Notes may lie beside the files, and what an editor leaves."""
    folder.define(name, "not TOML")
    assert folder.load().providers == {}


@pytest.mark.parametrize("directory", ["nowhere", "config.toml"])
def test_a_directory_that_is_none_is_refused_by_its_key(folder: Folder, directory: str):
    """A misspelt path must not silently mean no definitions."""
    assert set(folder.refused(directory=directory)) == {"config.toml: definitions.dir"}


def test_the_directory_can_be_given_in_full_and_in_the_environment(folder: Folder, tmp_path: Path):
    """A relative one lies beside the configuration, wherever the daemon is started."""
    Path(tmp_path, "other").mkdir()
    Path(tmp_path, "other", "bolt.toml").write_text(ACME)
    client = f"[providers.bolt]\n{CLIENT}"
    assert "bolt" in folder.load(client, directory=str(tmp_path / "other")).providers
    assert "bolt" in folder.load(client, REFRESHD_DEFINITIONS__DIR="other").providers


def test_files_are_read_anew_each_time(folder: Folder):
    """A reload takes over what changed, and a file that came or went."""
    folder.define("acme.toml", ACME)
    assert folder.configured("acme").definition.grace == timedelta()
    folder.define("acme.toml", ACME + 'grace = "5m"\n')
    assert folder.configured("acme").definition.grace == timedelta(minutes=5)
    Path(folder.definitions, "acme.toml").unlink()
    assert set(folder.refused(f"[providers.acme]\n{CLIENT}")) == {"config.toml: providers.acme.token_url"}


def test_a_mistyped_name_is_told_the_one_in_the_directory(folder: Folder):
    """Its own files are known names, like the shipped ones."""
    folder.define("acme.toml", ACME)
    problems = folder.refused(f"[providers.acmee]\n{CLIENT}")
    assert "mean acme?" in problems["config.toml: providers.acmee.token_url"]


def test_odd_keys_of_a_provider_are_problems_and_no_crash(folder: Folder):
    """Even where a text stands in the place of a table that would be looked into."""
    odd = f'[providers.zoom-server]\ntoken_url = "https://zoom.example/token"\nparams = "x"\n{CLIENT}'
    assert set(folder.refused(odd)) == {"config.toml: providers.zoom-server.params"}
