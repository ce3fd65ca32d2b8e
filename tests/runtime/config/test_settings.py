"""The configuration: what is accepted, what is refused and by which name, and that no refusal tells a secret."""

import base64
import hashlib
import json
import os
import re
import traceback
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters import trusted_files
from daemon.domain.key_use import KeyUse
from daemon.domain.provider import ClientAuth, Rate
from daemon.domain.secret import Secret
from daemon.runtime.config.ring import RingKey
from daemon.runtime.config.settings import Settings, SettingsInvalid, config_path, load
from daemon.runtime.config.weak_key import weakness

EXAMPLE = Path(__file__).parents[3] / "config.example.toml"
RAW = hashlib.sha256(b"for these tests").digest()
KEY = base64.b64encode(RAW).decode()
CANARY = "cAnArY-8d1f4b7e-must-never-be-printed"
LEAST = f"""
[store]
uri = "embedded"
[keys]
active = "a"
[keys.ring]
a = "{KEY}"
"""
XERO = """
[providers.xero]
client_id = "me"
client_secret = "s3cret"
"""


class Folder:
    """A configuration in a directory of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "config.toml"

    def write(self, text: str, name: str = "config.toml", mode: int = 0o600) -> Path:
        file = self.path / name
        file.write_text(text)
        file.chmod(mode)
        return file

    def load(self, text: str, *, mode: int = 0o600, env_file: Path | None = None, **env: str) -> Settings:
        self.write(text, mode=mode)
        return load(self.file, env, env_file)

    def refused(
        self, text: str, *, mode: int = 0o600, env_file: Path | None = None, **env: str
    ) -> dict[str, str]:
        """The problems: the key's name (or the variable's) -> all of its text."""
        with pytest.raises(SettingsInvalid) as raised:
            self.load(text, mode=mode, env_file=env_file, **env)
        problems = raised.value.problems
        assert all(problem.where and problem.what and problem.do for problem in problems)
        return {
            problem.where.removeprefix(f"{self.file}: "): f"{problem.what} {problem.do}"
            for problem in problems
        }


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_the_least_configuration_gets_the_documented_defaults(folder: Folder):
    """What the contract's example shows is what an operator gets without asking."""
    settings = folder.load(LEAST)

    assert settings.store.embedded
    assert settings.store.uri == "embedded"
    assert (settings.store.database, settings.store.collection) == ("refreshd", "tokens")
    assert settings.store.max_clock_skew == timedelta(seconds=30)
    assert settings.state_dir == folder.path / "var"
    refresh = settings.refresh
    assert (refresh.window, refresh.jitter) == (timedelta(minutes=5), timedelta(seconds=30))
    assert (refresh.sweep_every, refresh.concurrency) == (timedelta(seconds=15), 256)
    assert (refresh.request_timeout, refresh.lease) == (timedelta(seconds=30), timedelta(seconds=90))
    assert (refresh.adopt_after, refresh.drain) == (timedelta(minutes=15), timedelta(seconds=45))
    assert (settings.keys.active, settings.keys.ring) == ("a", {"a": RingKey(key=RAW)})
    assert (settings.server.host, settings.server.port, settings.server.bearer_token) == (
        "127.0.0.1",
        9464,
        None,
    )
    assert (settings.log.format, settings.log.level) == ("auto", "info")
    assert not settings.demo.enabled
    assert settings.providers == {}


def test_the_embedded_mongodb_is_a_caution_outside_of_the_demo(folder: Folder):
    """It gets no security fixes any more."""
    assert "no security fixes since July 2025" in str(folder.load(LEAST).caution)
    assert folder.load(LEAST + "[demo]\nenabled = true").caution is None
    own = LEAST.replace('"embedded"', '"mongodb://db.example.com/?tls=true"')
    assert folder.load(own).caution is None


def test_the_example_loads_as_it_is_and_makes_its_key_once(folder: Folder):
    """A newcomer's first run needs no edit, and the second run opens what the first has sealed."""
    settings = folder.load(EXAMPLE.read_text(), mode=0o644)
    key = folder.path / "var" / "demo.key"

    assert settings.demo.enabled
    assert settings.state_dir == folder.path / "var"
    assert key.stat().st_mode & 0o777 == 0o600
    assert base64.b64decode(key.read_text()) == settings.keys.ring["demo"].key
    assert [path.name for path in key.parent.iterdir()] == ["demo.key"]
    assert folder.load(EXAMPLE.read_text(), mode=0o644).keys.ring == settings.keys.ring


def test_everything_that_the_example_shows_in_comments_is_valid(folder: Folder):
    """Whoever uncomments a line gets what it says: defaults are the defaults, and each key exists."""
    lines = EXAMPLE.read_text().splitlines()
    shown = [re.sub(r"^#(?=[^ ])", "", line) for line in lines if not re.match(r"(uri|#uri = \")", line)]
    shown = [line for line in shown if not line.startswith(("demo =", "bearer_token", "client_secret"))]
    text = "\n".join(shown).replace("enabled = true", "enabled = false").replace('"demo"', '"2026-11"')
    secrets = {
        f"REFRESHD_PROVIDERS__{name}__CLIENT_SECRET": "x"
        for name in ("XERO", "XERO_UK", "MICROSOFT", "INTRANET")
    }

    secrets["HOOK_SECRET"] = f"whsec_{'c2VjcmV0' * 4}"
    settings = folder.load(text, REFRESHD_KEY=KEY, MONGODB_URI="mongodb://db.example.com/", **secrets)

    assert [one.name for one in settings.hooks] == ["crm"]
    assert set(settings.providers) == {"xero", "xero-uk", "microsoft", "intranet"}
    tenant = settings.providers["microsoft"].definition.variables["tenant"]
    assert tenant.default == "YOUR-TENANT.onmicrosoft.com"


@pytest.mark.parametrize(
    ("store", "database"),
    [
        ("uri = 'mongodb://db/app'\ndatabase = 'own'", "own"),
        ("uri = 'mongodb://db/app'\ndatabase = 'refreshd'", "refreshd"),
        ("uri = 'mongodb://db/app?tls=true'", "app"),
        ("uri = 'mongodb+srv://me:pw@db/app'", "app"),
        ("uri = 'mongodb://db/'", "refreshd"),
        ("uri = 'mongodb://db'", "refreshd"),
        ("uri = 'mongodb://me:pw@db/admin'", "refreshd"),
        ("uri = 'mongodb://db/local'", "refreshd"),
        ("uri = 'mongodb://db/config'", "refreshd"),
        ("uri = 'embedded'", "refreshd"),
    ],
)
def test_the_database_is_the_stated_one_else_the_uris(folder: Folder, store, database):
    """MongoDB's own databases, which a path may name for the login's sake, hold no tokens."""
    settings = folder.load(f"[store]\n{store}\n[keys]\nactive = 'a'\n[keys.ring]\na = '{KEY}'")
    assert settings.store.database == database


def test_the_defaults_that_the_example_shows_are_the_defaults(folder: Folder):
    """Uncommenting such a line changes nothing."""
    section = EXAMPLE.read_text().split("[refresh]")[1].split("[keys]")[0]
    shown = re.sub(r"^#(?=[a-z_]+ = )", "", section.replace("sweep_every", "#"), flags=re.MULTILINE)

    assert shown.count(" = ") == 8
    assert folder.load(f"{LEAST}[refresh]\n{shown}").refresh == folder.load(LEAST).refresh


REFUSALS = {
    "an unknown section": ("[stroe]\n", "stroe", "mean store"),
    "an unknown key": ("[refresh]\nwindw = '5m'\n", "refresh.windw", "mean window"),
    "a section that is a value": ("log = 'info'\n", "log", "table"),
    "a number for a duration": ("[refresh]\nwindow = 300\n", "refresh.window", "duration"),
    "a duration without unit": ("[refresh]\njitter = '30'\n", "refresh.jitter", "duration"),
    "a duration below zero": ("[refresh]\njitter = '-30s'\n", "refresh.jitter", "duration"),
    "a duration of ages": ("[refresh]\njitter = '999999999d'\n", "refresh.jitter", "years"),
    "an empty window": ("[refresh]\nwindow = '0s'\n", "refresh.window", "greater than zero"),
    "no sweeps": ("[refresh]\nsweep_every = '0ms'\n", "refresh.sweep_every", "greater than zero"),
    "nothing in flight": ("[refresh]\nconcurrency = 0\n", "refresh.concurrency", "whole number"),
    "a text for a number": ("[refresh]\nconcurrency = '256'\n", "refresh.concurrency", "without quotes"),
    "a float for a number": ("[refresh]\nconcurrency = 256.0\n", "refresh.concurrency", "whole number"),
    "a text for a port": ("[server]\nport = '9464'\n", "server.port", "without quotes"),
    "a text for a flag": ("[demo]\nenabled = 'false'\n", "demo.enabled", "without quotes"),
    "a text for a provider's number": (XERO + "concurrency = '8'\n", "providers.xero.concurrency", "without quotes"),
    "a text for a provider's flag": (XERO + "allow_private = 'true'\n", "providers.xero.allow_private", "without quotes"),
    "a text for a provider's list": (XERO + "keep = '[\"a\"]'\n", "providers.xero.keep", "brackets"),
    "a text for the number of lives": (XERO + "live_tokens = '50'\n", "providers.xero.live_tokens", "without quotes"),
    "a true for a number": ("[server]\nport = true\n", "server.port", "whole number"),
    "a short lease": ("[refresh]\nlease = '79s'\n", "refresh.lease", '"80s"'),
    "a short drain": ("[refresh]\ndrain = '30s'\n", "refresh.drain", '"30s"'),
    "a port out of range": ("[server]\nport = 65536\n", "server.port", "65535"),
    "an open server": ("[server]\nhost = '0.0.0.0'\n", "server.bearer_token", "loopback"),
    "a short bearer token for the network": (
        "[server]\nhost = '0.0.0.0'\nbearer_token = '123456789012345'\n", "server.bearer_token", "fewer than 16"
    ),
    "an empty bearer token": ("[server]\nbearer_token = ''\n", "server.bearer_token", "empty"),
    "a bearer token with a blank": ("[server]\nbearer_token = 'a b'\n", "server.bearer_token", "spaces"),
    "an unknown level": ("[log]\nlevel = 'loud'\n", "log.level", "warning"),
    "an unknown format": ("[log]\nformat = 'xml'\n", "log.format", "console"),
    "an empty directory": ("[state]\ndir = ''\n", "state.dir", "empty"),
    "a number for a flag": ("[demo]\nenabled = 1\n", "demo.enabled", "true or false"),
    "a demo of blinks": ("[demo]\nenabled = true\nlifetime = '500ms'\n", "demo.lifetime", "1s"),
    "providers that are none": ("providers = 3\n", "providers", "table"),
    "a provider that is none": ("[providers]\nxero = 3\n", "providers.xero", "table"),
    "a provider's odd name": (XERO.replace("xero", "Xero") + "token_url = 'https://x.com'\nclient_auth = 'post'", "providers.Xero", "a to z"),
    "an unknown provider": (XERO.replace("xero", "xerro"), "providers.xerro.token_url", "mean xero"),
    "a provider without auth style": (
        XERO.replace("xero", "ours") + "token_url = 'https://x.com'\n", "providers.ours.client_auth", "basic",
    ),
    "a provider without client": ("[providers.xero]\nclient_secret = 'x'\n", "providers.xero.client_id", "required"),
    "a provider without secret": ("[providers.xero]\nclient_id = 'x'\n", "providers.xero.client_secret", "required"),
    "a secret that is never sent": (XERO + "client_auth = 'none'\n", "providers.xero.client_secret", "never sent"),
    "a key that nobody has": (
        XERO.replace('client_secret = "s3cret"', "client_auth = 'private_key_jwt'"), "providers.xero.client_key", "private key",
    ),
    "a secret beside a key's auth": (
        XERO + "client_auth = 'none'\n", "providers.xero.client_secret", "never sent",
    ),
    "an unknown auth style": (XERO + "client_auth = 'digest'\n", "providers.xero.client_auth", "secret_as_user"),
    "a rate that is none": (XERO + "rate = '10 in 10m'\n", "providers.xero.rate", "10/10m"),
    "too large a share": (XERO + "concurrency = 257\n", "providers.xero.concurrency", "256"),
    "an unknown provider key": (XERO + "client_secrett = 'x'\n", "providers.xero.client_secrett", "client_secret"),
    "plain HTTP": (XERO + "token_url = 'http://xero.com/t'\n", "providers.xero.token_url", "https://"),
    "a number of rejections": (XERO + "confirm_after = 2\n", "providers.xero.confirm_after", "duration"),
    "a host with a scheme": (
        XERO + "allowed_hosts = ['https://sso.example.com']\n", "providers.xero.allowed_hosts.0", "sso.example.com",
    ),
    "a host with a path": (
        XERO + "allowed_hosts = ['sso.example.com/auth']\n", "providers.xero.allowed_hosts.0", ":8443",
    ),
    "a host with a user": (XERO + "allowed_hosts = ['u@sso.example.com']\n", "providers.xero.allowed_hosts.0", ":8443"),
    "a host in capitals": (XERO + "allowed_hosts = ['SSO.example.com']\n", "providers.xero.allowed_hosts.0", "lower case"),
    "every host": (XERO + "allowed_hosts = ['*.example.com']\n", "providers.xero.allowed_hosts.0", "not a host"),
    "no host at all": (
        XERO.replace("xero", "keycloak"), "providers.keycloak.allowed_hosts", "each token specifies",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_each_mistake_is_refused_by_its_key(folder: Folder, case: tuple[str, str, str]):
    """One mistake is one problem, and it says where it stands and what would do instead."""
    text, place, hint = case
    problems = folder.refused(LEAST + text if text.lstrip().startswith("[") else text + LEAST)

    assert list(problems) == [place]
    assert hint in problems[place]


STORES = {
    "nothing": ("", "required"),
    "another database": ("uri = 'postgres://db/'", "not a MongoDB URI"),
    "no host": ("uri = 'mongodb:///tokens'", "no host"),
    "an '@' in the password": ("uri = 'mongodb://u:p@ss@db/'", "Percent-encode"),
    "nothing in it": ("uri = ''", "empty"),
    "a number": ("uri = 5", "supported form"),
    "two references": ("uri = { env = 'A', file = 'B' }", "supported form"),
    "an unknown reference": ("uri = { keepass = 'A' }", "supported form"),
    "a variable that is not set": ("uri = { env = 'NOT_SET' }", "NOT_SET"),
    "a variable with a strange name": ("uri = { env = 'mongodb://x' }", "name of an environment variable"),
    "a file that is not there": ("uri = { file = 'none' }", "No such file"),
    "a directory": ("uri = { file = '.' }", "directory"),
    "a file that is no path": ("uri = { file = 'a\\u0000b' }".replace("'", '"'), "not a path"),
    "a credential without systemd": ("uri = { credential = 'uri' }", "CREDENTIALS_DIRECTORY"),
    "a created URI": ("uri = { file = 'uri', create = true }", "keys only"),
}


@pytest.mark.parametrize("case", STORES.values(), ids=STORES)
def test_a_store_that_leads_nowhere_is_refused(folder: Folder, case: tuple[str, str]):
    """The URI is required, and a reference to it must lead to a text."""
    problems = folder.refused(f"[store]\n{case[0]}\n[keys]\nactive = 'a'\n[keys.ring]\na = '{KEY}'")
    assert list(problems) == ["store.uri"]
    assert case[1] in problems["store.uri"]


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://db.example.com",
        "mongodb://a:27017,b:27018/?replicaSet=rs0",
        "mongodb+srv://user:p%40ss@db.example.com/tokens",
        "mongodb://%2Ftmp%2Fmongodb.sock/",
    ],
)
def test_a_mongodb_uri_is_a_secret(folder: Folder, uri: str):
    """Every usual form is taken, and none of them prints itself."""
    settings = folder.load(LEAST.replace("embedded", uri))

    assert isinstance(settings.store.uri, Secret)
    assert settings.store.uri.reveal() == uri
    assert uri not in repr(settings)
    assert not settings.store.embedded


KEYS = {
    "too short": ("'c2hvcnQ='", "32 bytes"),
    "31 bytes": (f"'{base64.b64encode(RAW[:31]).decode()}'", "32 bytes"),
    "hex of 33 bytes": (f"'{RAW.hex()}00'", "32 bytes"),
    "no encoding": ("'!!!not base64!!!'", "32 bytes"),
    "outside ASCII": ("'ключ'", "32 bytes"),
    "all zero": (f"'{base64.b64encode(bytes(32)).decode()}'", "weak"),
    "all equal, in hex": (f"'{'ab' * 32}'", "weak"),
    "an example of ours": (f"'{bytes(range(32)).hex()}'", "weak key: its bytes count up or down"),
    "a password": (
        f"'{base64.b64encode(b'passwordpasswordpassword12345678').decode()}'",
        "weak key",
    ),
    "made anew without a demo": ("{ file = 'new', create = true }", "[demo] only"),
}


@pytest.mark.parametrize("case", KEYS.values(), ids=KEYS)
def test_a_key_that_is_none_is_refused(folder: Folder, case: tuple[str, str]):
    """Exactly 32 bytes, not weak, and outside of the demo never one that nobody has saved."""
    problems = folder.refused(LEAST.replace(f'"{KEY}"', case[0]))
    assert list(problems) == ["keys.ring.a"]
    assert case[1] in problems["keys.ring.a"]
    assert not (folder.path / "new").exists()


VECTORS = Path(__file__).parents[2] / "vectors"


def _published(folder: Path) -> list[bytes]:
    """Everything in the vectors that could be a key, in hexadecimal or in base64."""
    texts = [file.read_text() for file in sorted(folder.iterdir())]
    found = {bytes.fromhex(one) for text in texts for one in re.findall(r"[0-9a-f]{64}", text)}
    found |= {base64.b64decode(one) for text in texts for one in re.findall(r'"([A-Za-z0-9+/]{43}=)"', text)}
    return sorted(found)


@pytest.mark.parametrize(
    "key",
    [
        bytes(range(32)),
        bytes(range(31, -1, -1)),
        bytes(range(200, 200 + 56))[:32],
        bytes(n * 7 % 256 for n in range(32)),
        RAW[:24] + bytes(8),
        RAW[:16] + RAW[:16],
        RAW[:10] * 3 + RAW[:2],
        RAW[:16] + RAW[:16][::-1],
        RAW[:8].hex().encode() * 2,
        RAW[:16].hex().encode(),
        b"correct horse battery staple!!!!",
        b"correct horse battery\n" + bytes(10),
        "Über den Wolken muss die Frei".encode() + b"ab",
        "пароль-пароль-99".encode() + b"abcd",
        *_published(VECTORS),
    ],
    ids=bytes.hex,
)
def test_a_key_that_can_be_guessed_is_refused(key):
    """Counted off, repeated, padded, typed, or published with this program."""
    assert len(key) == 32
    assert weakness(key) is not None


@given(st.binary(min_size=32, max_size=32))
def test_a_key_that_is_refused_is_one_that_can_be_described(key):
    """No exception for any bytes; and what the kernel gives is always taken."""
    weakness(key)
    assert weakness(os.urandom(32)) is None


@pytest.mark.parametrize("form", [KEY, KEY.rstrip("="), RAW.hex(), RAW.hex().upper(), f"{KEY}"])
def test_a_key_may_be_base64_or_hex(folder: Folder, form: str):
    """What `keys generate`, `openssl rand -base64 32` and `openssl rand -hex 32` print is taken."""
    assert folder.load(LEAST.replace(KEY, form)).keys.key_ring._keys == {"a": RAW}


def test_the_active_key_must_be_on_the_ring(folder: Folder):
    """An id is checked for form, and the active one for being there."""
    assert "of: a" in folder.refused(LEAST.replace('active = "a"', 'active = "b"'))["keys.active"]
    assert list(folder.refused(LEAST + '"a.b" = "x"')) == ["keys.ring.a.b"]
    assert list(folder.refused("[store]\nuri = 'embedded'")) == ["keys.active", "keys.ring"]


def test_all_problems_are_told_at_once(folder: Folder):
    """An operator mends a file once, not once per mistake; a broken key hides no other one."""
    problems = folder.refused(
        """
        [store]
        uri = "postgres://db"
        databse = "x"
        [refresh]
        window = "soon"
        lease = "1s"
        drain = "2s"
        [keys]
        active = "gone"
        ring = { a = "short", b = "short" }
        [log]
        level = "loud"
        [server]
        host = "::"
        port = "many"
        [providers.xero]
        concurrency = 0
        grace = "long"
        [providers.nowhere]
        client_idd = "x"
        """,
        REFRESHD_LOG__COLOUR="red",
    )
    assert set(problems) == {
        "store.uri", "store.databse", "refresh.window", "refresh.lease", "refresh.drain", "keys.active",
        "keys.ring.a", "keys.ring.b", "log.level", "environment: REFRESHD_LOG__COLOUR", "server.bearer_token",
        "server.port", "providers.xero.concurrency", "providers.xero.grace", "providers.xero.client_id",
        "providers.xero.client_secret", "providers.nowhere.client_secret", "providers.nowhere.token_url",
        "providers.nowhere.client_idd", "providers.nowhere.client_id",
    }  # fmt: skip


def test_a_broken_value_is_not_compared_with_others(folder: Folder):
    """A mistake is told once; what hangs on it is not called wrong on top."""
    assert list(folder.refused(LEAST + "[refresh]\nrequest_timeout = 'x'\nlease = '25s'\ndrain = '2s'")) == [
        "refresh.request_timeout"
    ]


def test_the_environment_wins_over_the_file(folder: Folder):
    """Sections, nested keys and whole providers can be set by variables; texts become what their key wants."""
    settings = folder.load(
        LEAST + "[refresh]\nwindow = '1m'\njitter = '1s'\n" + XERO,
        REFRESHD_REFRESH__WINDOW="2m",
        REFRESHD_SERVER__PORT="0",
        REFRESHD_DEMO__ENABLED="true",
        REFRESHD_KEYS__RING__B=RAW[::-1].hex(),
        REFRESHD_KEYS__ACTIVE="b",
        REFRESHD_PROVIDERS__XERO__CLIENT_ID="123456",
        REFRESHD_PROVIDERS__XERO__KEEP='["a", "b"]',
        REFRESHD_PROVIDERS__OURS__TOKEN_URL="https://10.0.0.7/token",
        REFRESHD_PROVIDERS__OURS__CLIENT_AUTH="none",
        REFRESHD_PROVIDERS__OURS__CLIENT_ID="true",
        REFRESHD_PROVIDERS__OURS__PARAMS__AUDIENCE="us",
        REFRESHD_CONFIG="/elsewhere",
        REFRESHD_KEY="not configuration",
        HOME="/root",
    )
    assert (settings.refresh.window, settings.refresh.jitter) == (timedelta(minutes=2), timedelta(seconds=1))
    assert settings.server.port == 0
    assert settings.demo.enabled
    assert settings.keys.key_ring._keys == {"a": RAW, "b": RAW[::-1]}
    assert settings.providers["xero"].client_id == "123456"
    assert settings.providers["xero"].client_secret == Secret("s3cret")
    assert settings.providers["xero"].definition.keep == ("a", "b")
    ours = settings.providers["ours"]
    assert (ours.client_id, ours.definition.client_auth, ours.client_secret) == (
        "true",
        ClientAuth.NONE,
        None,
    )
    assert ours.definition.params == {"audience": "us"}
    assert ours.definition.title == "ours"


def test_a_text_stands_for_a_number_in_a_variable_only(folder: Folder):
    """A variable has no other form, of the environment and of an env file; and what it sets keeps its type."""
    text = LEAST + "[refresh]\nconcurrency = 8\n" + XERO
    env_file = folder.write("REFRESHD_SERVER__PORT=0\nREFRESHD_DEMO__ENABLED=false\n", "env")
    settings = folder.load(
        text,
        env_file=env_file,
        REFRESHD_REFRESH__CONCURRENCY="16",
        REFRESHD_PROVIDERS__XERO__ALLOW_PRIVATE="true",
        REFRESHD_PROVIDERS__XERO__KEEP='["a"]',
        REFRESHD_PROVIDERS__XERO__REJECTED='[{ field = "error", values = ["x"], status = [400] }]',
    )
    assert (settings.refresh.concurrency, settings.server.port, settings.demo.enabled) == (16, 0, False)
    xero = settings.providers["xero"]
    assert xero.definition.keep == ("a",)
    assert type(settings.store.database) is str
    assert "whole number" in folder.refused(text, REFRESHD_REFRESH__CONCURRENCY="1_6").popitem()[1]
    inner = '[{ field = "error", values = ["x"], status = ["400"] }]'
    assert "quotes" in folder.refused(text, REFRESHD_PROVIDERS__XERO__REJECTED=inner).popitem()[1]


def test_a_text_in_the_file_is_refused_where_a_list_is_wanted(folder: Folder):
    """A list in quotes has a look of its own in a variable; in the file it is a mistake."""
    text = LEAST.replace("[keys]", "[keys]\nwriters = '[\"a\"]'")
    assert "brackets" in folder.refused(text)["keys.writers"]


def test_a_variable_can_stand_for_the_reference_to_a_secret(folder: Folder):
    """A key's path goes on into the reference: REFRESHD_STORE__URI__ENV."""
    settings = folder.load(LEAST, REFRESHD_SERVER__BEARER_TOKEN__ENV="T", T="token")
    assert settings.server.bearer_token == Secret("token")


def test_a_misspelt_variable_is_refused_by_its_name(folder: Folder):
    """A typo in the environment is as wrong as one in the file, and so is a contradiction."""
    problems = folder.refused(
        LEAST,
        REFRESHD_REFRESH__WINDOWS="1m",
        REFRESHD_REFERSH__WINDOW="1m",
        REFRESHD_SERVER__="x",
        REFRESHD_LOG__LEVEL="info",
        REFRESHD_LOG__LEVEL__X="info",
    )
    assert set(problems) == {
        "environment: REFRESHD_REFRESH__WINDOWS",
        "environment: REFRESHD_REFERSH__WINDOW",
        "environment: REFRESHD_SERVER__",
        "environment: REFRESHD_LOG__LEVEL__X",
    }


def test_an_env_file_counts_less_than_the_environment(folder: Folder):
    """It sets keys and serves references; a value with a dollar sign stays as it is."""
    env_file = folder.write(
        "# ours\nexport REFRESHD_LOG__LEVEL=debug\nREFRESHD_SERVER__PORT=1\nTOKEN='a${HOME}b'\n\n", "our.env"
    )
    settings = folder.load(
        LEAST + "[server]\nbearer_token = { env = 'TOKEN' }",
        env_file=env_file,
        REFRESHD_SERVER__PORT="2",
    )
    assert (settings.log.level, settings.server.port) == ("debug", 2)
    assert settings.server.bearer_token == Secret("a${HOME}b")


def test_a_bad_env_file_is_refused_by_its_line(folder: Folder):
    """A line that is no assignment would be a setting that is silently missing."""
    problems = folder.refused(LEAST, env_file=folder.write("A=1\nB\nC=2\n'x\n", "our.env"))
    assert list(problems) == [f"{folder.path}/our.env: line 2", f"{folder.path}/our.env: line 4"]
    assert list(folder.refused(LEAST, env_file=folder.path / "none")) == [f"{folder.path}/none"]
    misspelt = folder.write("REFRESHD_LOG__LEVLE=info", "our.env")
    assert list(folder.refused(LEAST, env_file=misspelt)) == [f"{misspelt}: REFRESHD_LOG__LEVLE"]


def test_secrets_come_from_variables_files_and_credentials(folder: Folder):
    """Each kind of reference, wherever a secret stands; one trailing newline is not part of it."""
    folder.write("line\n\n", "secret")
    folder.write(f"{RAW.hex()}\r\n", "key")
    (folder.path / "credentials").mkdir()
    folder.write("mongodb://u:p@db/\n", "credentials/uri", mode=0o644)
    settings = folder.load(
        """
        store.uri = { credential = "uri" }
        keys.active = "k"
        keys.ring.k = { file = "key" }
        server.bearer_token = { env = "BEARER" }
        [providers.google]
        client_id = "g"
        client_secret = { file = "secret" }
        """,
        mode=0o644,
        BEARER="bear\n",
        CREDENTIALS_DIRECTORY=str(folder.path / "credentials"),
    )
    assert settings.store.uri == Secret("mongodb://u:p@db/")
    assert settings.keys.key_ring._keys == {"k": RAW}
    assert settings.server.bearer_token == Secret("bear")
    assert settings.providers["google"].client_secret == Secret("line\n")


def test_a_credential_is_a_name_and_not_a_path(folder: Folder):
    """It can't lead out of systemd's directory."""
    problems = folder.refused(
        LEAST.replace(f'"{KEY}"', "{ credential = '../key' }"), CREDENTIALS_DIRECTORY=str(folder.path)
    )
    assert "not a path" in problems["keys.ring.a"]


def test_a_file_that_is_no_secret_is_refused(folder: Folder):
    """Binary keys and huge files are the wrong file, said in a sentence."""
    text = LEAST.replace(f'"{KEY}"', "{ file = 'key' }")
    (folder.path / "key").write_bytes(b"\xff" * 32)
    (folder.path / "key").chmod(0o600)
    assert "not text" in folder.refused(text)["keys.ring.a"]
    folder.write("a" * (1 << 20) + "b", "key")
    assert "too large" in folder.refused(text)["keys.ring.a"]


def test_secrets_in_files_that_everybody_can_read_are_refused(folder: Folder):
    """The config file with inline secrets, a secret's own file, and an env file that a secret came from."""
    inline = LEAST.replace("embedded", "mongodb://u:p@db/") + XERO + "[server]\nbearer_token = 'x'\n"
    assert set(folder.refused(inline, mode=0o644)) == {
        "store.uri", "keys.ring.a", "server.bearer_token", "providers.xero.client_secret"
    }  # fmt: skip
    assert folder.load(inline, mode=0o640)

    by_reference = LEAST.replace(f'"{KEY}"', "{ file = 'key' }")
    folder.write(KEY, "key", mode=0o604)
    assert "chmod" in folder.refused(by_reference, mode=0o644)["keys.ring.a"]
    (folder.path / "key").chmod(0o640)
    assert folder.load(by_reference, mode=0o644)

    env_file = folder.write(
        f"K={KEY}\nREFRESHD_SERVER__BEARER_TOKEN=x\nREFRESHD_LOG__LEVEL=info", "e", mode=0o644
    )
    by_variable = LEAST.replace(f'"{KEY}"', "{ env = 'K' }")
    assert set(folder.refused(by_variable, env_file=env_file)) == {
        "keys.ring.a", f"{env_file}: REFRESHD_SERVER__BEARER_TOKEN"
    }  # fmt: skip
    assert folder.load(by_variable, env_file=env_file, K=KEY, REFRESHD_SERVER__BEARER_TOKEN="y")


@pytest.mark.parametrize(
    "which", ["config.toml", ".env", "key", "ca.pem", "providers/acme.toml", "providers", "credential"]
)
def test_files_that_others_can_change_are_obeyed_by_nothing(folder: Folder, which: str):
    """Whatever decides what refreshd does, or seals with: each has a name, and a cure, in the refusal."""
    folder.write(KEY, "key")
    folder.write(KEY, "credential")
    folder.write("REFRESHD_LOG__LEVEL=debug", ".env")
    folder.write("", "ca.pem")
    (folder.path / "providers").mkdir()
    folder.write('token_url = "https://acme.example/token"\nclient_auth = "post"', "providers/acme.toml")
    uri = f"mongodb://db.example.com/?tls=true&tlsCAFile={folder.path}/ca.pem"
    text = (
        LEAST.replace("embedded", uri).replace(f'"{KEY}"', '{ file = "key" }')
        + "b = { credential = 'credential' }\n[definitions]\ndir = 'providers'"
    )
    given = {"env_file": folder.path / ".env", "CREDENTIALS_DIRECTORY": str(folder.path)}
    folder.load(text, **given)
    loose = folder.path / which
    mode = 0o757 if loose.is_dir() else 0o602
    loose.chmod(mode)
    with pytest.raises(SettingsInvalid) as raised:
        folder.load(text, mode=mode if which == "config.toml" else 0o600, **given)
    told = [str(problem) for problem in raised.value.problems]
    assert which != "providers" or any("definitions.dir" in one for one in told)
    assert any(f"{loose} belongs to" in one and f"chmod o-w {loose}" in one for one in told), told


@pytest.mark.parametrize("option", ["tlsCAFile", "tlsCertificateKeyFile", "tlsCRLFile"])
def test_certificates_of_the_uri_are_files(folder: Folder, option: str):
    """The driver would wait for the writer of a pipe, and the start or the reload with it."""
    os.mkfifo(pipe := folder.path / "pipe", 0o600)
    uri = f"mongodb://db.example.com/?tls=true&{option}={pipe}"
    with pytest.raises(SettingsInvalid) as raised:
        folder.load(LEAST.replace("embedded", uri))
    [problem] = raised.value.problems
    assert (problem.where.endswith("store.uri"), str(pipe) in problem.what) == (True, True)
    assert "it is a pipe" in problem.what
    folder.load(LEAST.replace("embedded", uri.replace("pipe", "missing")))  # the driver's own message says so


def test_a_secret_that_a_group_of_others_can_read_is_noted(folder: Folder, monkeypatch: pytest.MonkeyPatch):
    """It may be meant so: `check` warns. Not of a credential, which systemd gives with mode 0440."""
    monkeypatch.setattr(trusted_files, "_is_own_group", lambda _: False)
    folder.write(KEY, "key", mode=0o640)
    text = LEAST.replace(f'"{KEY}"', '{ credential = "key" }')
    assert folder.load(text, CREDENTIALS_DIRECTORY=str(folder.path)).loose == ()
    (loose,) = folder.load(LEAST.replace(f'"{KEY}"', '{ file = "key" }')).loose
    assert loose.where == str(folder.path / "key")
    assert "which has other members" in loose.what


def test_a_loopback_providers_secret_and_a_uri_without_password_may_be_read(folder: Folder):
    """What guards nothing needs no guarding: a demo stays simple."""
    text = """
        store.uri = "mongodb://db.example.com/"
        keys = { active = "a", ring = { a = { env = "K" } } }
        [providers.sandbox]
        client_id = "x"
        client_secret = "y"
        [providers.xero]
        client_id = "x"
        client_secret = "y"
        token_url = "http://[::1]:9000/token"
    """
    assert set(folder.load(text, mode=0o644, K=KEY).providers) == {"sandbox", "xero"}


def test_the_demo_needs_the_embedded_database(folder: Folder):
    """Demo tokens must never appear in a database that somebody uses."""
    text = LEAST.replace("embedded", "mongodb://db/") + "[demo]\nenabled = true\n"
    assert "embedded" in folder.refused(text)["demo.enabled"]
    assert not folder.load(text.replace("true", "false")).demo.enabled


def test_the_state_directory_lies_beside_the_file_or_where_systemd_says(folder: Folder):
    """[state] dir, else the first of $STATE_DIRECTORY, else var."""
    assert folder.load(LEAST, STATE_DIRECTORY="/var/lib/a:/var/lib/b").state_dir == Path("/var/lib/a")
    assert folder.load(LEAST + "[state]\ndir = 'x/y'", STATE_DIRECTORY="/s").state_dir == folder.path / "x/y"
    assert folder.load(LEAST, REFRESHD_STATE__DIR="/abs").state_dir == Path("/abs")


def test_a_providers_share_is_its_own_or_an_even_part(folder: Folder):
    """Its own is guaranteed and is the most. Where nothing is said, each gets an even part of half of what is left."""
    two = (
        LEAST
        + XERO
        + "concurrency = 7\nwindow = '9m'\n[providers.google]\nclient_id='g'\nclient_secret='x'\n"
    )
    providers = folder.load(two).providers
    assert [(one.share, one.most) for one in providers.values()] == [(7, 7), (249, None)]
    assert (providers["xero"].window, providers["google"].window) == (timedelta(minutes=9), None)
    even = folder.load(two.replace("concurrency = 7", "")).providers
    assert [(one.share, one.most) for one in even.values()] == [(64, None), (64, None)]
    few = folder.load(two.replace("concurrency = 7", ""), REFRESHD_REFRESH__CONCURRENCY="1").providers
    assert [provider.share for provider in few.values()] == [1, 1]


def test_a_shipped_definition_can_be_corrected_key_by_key(folder: Folder):
    """What the operator knows better wins; the rest stays, and a fixed URL needs no variables."""
    client = "client_id = 'm'\nclient_secret = 's'\n"
    microsoft = folder.load(
        LEAST
        + "[providers.microsoft]\n"
        + client
        + "grace = '1m'\nvariables.tenant.default = 'contoso.com'\n"
    ).providers["microsoft"]
    assert microsoft.definition.grace == timedelta(minutes=1)
    assert microsoft.definition.confirm_after == timedelta(minutes=1)
    assert microsoft.definition.variables["tenant"].default == "contoso.com"

    fixed = folder.load(
        LEAST + "[providers.microsoft]\n" + client + "token_url = 'https://sso.intern/token'\n"
    )
    assert fixed.providers["microsoft"].definition.token_url == "https://sso.intern/token"
    assert fixed.providers["microsoft"].definition.variables == {}

    problems = folder.refused(
        LEAST
        + "[providers.microsoft]\n"
        + client
        + "[providers.microsoft.variables.tenant]\ndefault = 'a/b'\n"
    )
    assert list(problems) == ["providers.microsoft.variables.tenant.default"]


def test_what_an_operator_says_about_a_provider_arrives(folder: Folder):
    """Its own limits, and the hosts that variables may lead to."""
    text = "allowed_hosts = ['sso.example.com', '10.0.0.7:8443', 'localhost']\nallow_private = true\nrate = '10/10m'\n"
    keycloak = folder.load(LEAST + XERO.replace("xero", "keycloak") + text).providers["keycloak"]
    assert keycloak.allowed_hosts == {"sso.example.com", "10.0.0.7:8443", "localhost"}
    assert keycloak.allow_private
    assert keycloak.definition.rates == (Rate(count=10, per=timedelta(minutes=10)),)
    xero = folder.load(LEAST + XERO).providers["xero"]
    assert (xero.allowed_hosts, xero.allow_private, xero.definition.rates) == (frozenset(), False, ())


def test_a_missing_or_broken_file_is_one_problem(folder: Folder):
    """The path, and for TOML the line; never what stands there."""
    with pytest.raises(SettingsInvalid) as raised:
        load(folder.path / "none.toml", {}, None)
    (problem,) = raised.value.problems
    assert problem.where == str(folder.path / "none.toml")
    assert "--config" in problem.do

    assert list(folder.refused(f"[store]\nuri = 'x'\nx = {CANARY}\n")) == ["line 3"]
    assert list(folder.refused("[store")) == ["line 1"]
    assert "missing quote" in folder.refused("[store")["line 1"]
    for twice in ("[a]\nb = 1\nb = 2\n", "[a]\n[a]\n", "a = { b = 1, b = 2 }\n", "a = {}\na.b = 1\n"):
        (sentence,) = folder.refused(twice).values()
        assert "stands twice" in sentence
    folder.file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsInvalid, match="UTF-8"):
        load(folder.file, {}, None)
    with pytest.raises(SettingsInvalid, match="directory"):
        load(folder.path, {}, None)


def test_the_file_is_looked_for_where_the_contract_says(folder: Folder):
    """--config, then $REFRESHD_CONFIG (also of an env file), then the system's, then the current directory's."""
    system = folder.path / "system.toml"
    env = {"REFRESHD_CONFIG": "/by/env"}
    assert config_path(Path("/by/option"), env) == Path("/by/option")
    assert config_path(None, env, system=system) == Path("/by/env")
    assert config_path(None, {}, system=system) == Path("config.toml")
    system.touch()
    assert config_path(None, {}, system=system) == system
    folder.write(LEAST)
    assert load(None, {}, folder.write(f"REFRESHD_CONFIG={folder.file}", "e")).keys.active == "a"


SECRET_PLACES = {
    "a URI of another scheme": ("[store]\nuri = 'postgres://u:{}@db'", {}),
    "a URI with an '@'": ("[store]\nuri = 'mongodb://u:{}@@db'", {}),
    "a key": ("[keys]\nactive = 'a'\nring = {{ a = '{}' }}", {}),
    "an env reference": ("[store]\nuri = {{ env = '{}' }}", {}),
    "an odd reference": ("[store]\nuri = {{ text = '{}' }}", {}),
    "a list": ("[store]\nuri = ['{}']", {}),
    "a number's place": ("[server]\nport = '{}'", {}),
    "a duration's place": ("[refresh]\nlease = '{}'", {}),
    "a word's place": ("[log]\nlevel = '{}'", {}),
    "a section's place": ("server = '{}'", {}),
    "an unknown key": ("[server]\ntoken = '{}'", {}),
    "an unknown section": ("[secrets]\ntoken = '{}'", {}),
    "a provider's place": ("[providers]\nxero = '{}'", {}),
    "a client secret nobody sends": ("[providers.xero]\nclient_auth = 'none'\nclient_secret = '{}'", {}),
    "a token URL": ("[providers.xero]\ntoken_url = 'https://u:{}@xero.com/'", {}),
    "a parameter": ("[providers.xero.params]\nclient_secret = '{}'", {}),
    "a header": ("[providers.xero.headers]\nAuthorization = '{}'", {}),
    "a pattern": ("[providers.microsoft.variables.tenant]\npattern = '({}'", {}),
    "a default": ("[providers.microsoft.variables.tenant]\ndefault = '{}/'", {}),
    "a bearer token": ("[server]\nbearer_token = '{} '", {}),
    "a variable": ("", {"REFRESHD_STORE__URI": CANARY, "REFRESHD_NONE__X": CANARY, "REFRESHD_A__B__C": CANARY}),
    "a variable that is referred to": ("[keys]\nring.a.env = 'K'\n[store]\nuri.env = 'K'", {"K": CANARY}),
    "TOML": ("[store]\nuri = {}", {}),
}  # fmt: skip


@pytest.mark.parametrize("case", SECRET_PLACES.values(), ids=SECRET_PLACES)
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_no_refusal_tells_a_secret(folder: Folder, case: tuple[str, dict[str, str]], mode: int):
    """Whatever is wrong, neither a problem nor a traceback quotes a value."""
    text, env = case
    with pytest.raises(SettingsInvalid) as raised:
        folder.load(text.format(CANARY), mode=mode, **env)
    told = "".join(traceback.format_exception(raised.value)) + repr(raised.value.problems) + str(raised.value)
    assert CANARY not in told
    assert len(raised.value.problems) >= 1


def test_settings_never_print_their_secrets(folder: Folder):
    """repr() of the whole, as a debugger or a log would show it."""
    settings = folder.load(
        LEAST.replace("embedded", f"mongodb://u:{CANARY}@db/")
        + f"[server]\nbearer_token = '{CANARY}'\n[providers.xero]\nclient_id = 'x'\nclient_secret = '{CANARY}'\n"
    )
    assert CANARY not in repr(settings)
    assert KEY not in repr(settings)
    assert repr(RAW) not in repr(settings)
    assert settings.providers["xero"].client_secret == Secret(CANARY)


def test_two_processes_that_make_the_demo_key_agree_on_it(folder: Folder, monkeypatch: pytest.MonkeyPatch):
    """The second finds the first one's key in place and takes it, although it had begun to make its own."""
    real = os.link

    def late(source: Path, target: Path) -> None:
        Path(target).write_text(KEY)
        Path(target).chmod(0o600)
        real(source, target)

    monkeypatch.setattr(os, "link", late)
    settings = folder.load(EXAMPLE.read_text())
    assert settings.keys.key_ring._keys == {"demo": RAW}


def test_a_key_that_can_not_be_made_is_a_problem(folder: Folder):
    """Here its directory is a file."""
    folder.write("", "var")
    assert "can't be created" in folder.refused(EXAMPLE.read_text())["keys.ring.demo"]


# ---------------------------------------------------------------- the ring


def test_a_ring_key_may_have_a_date_and_a_use(folder):
    """As a text or as a reference; what may only open seals nothing, and its writers are not accepted."""
    folder.write(RAW[::-1].hex(), "old")
    settings = folder.load(
        LEAST
        + f"b = {{ value = '{KEY}', created = 2026-11-01 }}\n"
        + "c = { file = 'old', created = '2026-08-01', use = 'open' }\n"
        + "[providers.xero]\nclient_id = 'c'\nclient_secret = 's'\nclient_secret_created = 2026-11-02"
    )
    ring = settings.keys.ring
    assert ring["a"] == RingKey(key=RAW)
    assert ring["b"] == RingKey(key=RAW, created=date(2026, 11, 1))
    assert ring["c"] == RingKey(key=RAW[::-1], created=date(2026, 8, 1), use=KeyUse.OPEN)
    assert settings.keys.max_age == timedelta(days=90)
    made = settings.keys.key_ring
    assert (made.writers, made.only_open) == ({"a", "b"}, {"c"})
    assert settings.providers["xero"].client_secret_created == date(2026, 11, 2)
    assert KEY not in repr(settings)


def test_accepted_writers_may_be_named(folder):
    text = LEAST.replace('active = "a"', "active = 'a'\nwriters = ['b']\nmax_age = '30d'")
    keys = folder.load(text + f"b = {{ value = '{KEY}', use = 'open' }}").keys
    assert keys.key_ring.writers == {"b"}
    assert keys.max_age == timedelta(days=30)


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("{ value = 'KEY', created = '1.11.2026' }", "not a date"),
        ("{ value = 'KEY', created = 2026-11-01T00:00:00Z }", "not a date"),
        ("{ value = 'KEY', created = 20261101 }", "not a date"),
        ("{ value = 'KEY', use = 'seal' }", "possible values"),
        ("{ value = 'KEY', use = true }", "possible values"),
        ("{ value = { env = 'KEY' } }", "text of a key alone"),
        ("{ value = 'KEY', file = 'old' }", "text of a key alone"),
        ("{ value = 7 }", "text of a key alone"),
        ("{ created = 2026-11-01 }", "supported form"),
        ("{ value = 'KEY', colour = 'red' }", "text of a key alone"),
        ("{ value = 'short' }", "not a key"),
    ],
)
def test_a_ring_entry_of_another_form_is_refused(folder, entry, what):
    problems = folder.refused(LEAST + "b = " + entry.replace("KEY", KEY))
    assert list(problems) == ["keys.ring.b"]
    assert what in problems["keys.ring.b"]
    assert KEY not in str(problems)


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("writers = ['x']", "keys.writers"),
        ("writers = 'a'", "keys.writers"),
        ("writers = ['a.b']", "keys.writers"),
        ("max_age = '0s'", "keys.max_age"),
        ("max_age = 90", "keys.max_age"),
    ],
)
def test_other_values_of_keys_are_refused(folder, line, place):
    (where,) = folder.refused(LEAST.replace('active = "a"', f"active = 'a'\n{line}"))
    assert where.startswith(place)


def test_the_active_key_may_not_be_one_that_only_opens(folder):
    text = LEAST.replace(f'a = "{KEY}"', f"a = {{ value = '{KEY}', use = 'open' }}")
    assert text != LEAST
    assert list(folder.refused(text)) == ["keys.active"]


def test_the_value_of_a_ring_entry_is_a_secret_in_the_file(folder):
    text = LEAST.replace(f'a = "{KEY}"', f"a = {{ value = '{KEY}', created = 2026-11-01 }}")
    assert "every local user" in folder.refused(text, mode=0o644)["keys.ring.a"]


@pytest.mark.parametrize("section", ["state", "definitions", "layouts"])
def test_a_directory_that_can_be_no_path_is_named(folder: Folder, section: str):
    """A NUL ends a path, and a name has a longest length: neither is a reason for a trace."""
    with_nul = folder.refused(f'{LEAST}[{section}]\ndir = "a\\u0000b"')
    assert "NUL" in with_nul[f"{section}.dir"]
    if section != "state":  # that one is made
        assert (
            "can't be read" in folder.refused(f'{LEAST}[{section}]\ndir = "{"a" * 5000}"')[f"{section}.dir"]
        )


@pytest.mark.parametrize("opened", ["[", "{a="])
def test_a_file_that_is_nested_too_deeply_is_named(folder: Folder, opened: str):
    """By its path: the parser has no line for it."""
    assert "nested too deeply" in folder.refused(f"x = {opened * 20_000}")[str(folder.file)]


@pytest.mark.parametrize("host", ["\u202e", "b\u00fccher", "a b", "\x1b[31m", "a" * 254])
def test_a_host_that_can_be_no_address_is_named(folder: Folder, host: str):
    """The look-up of such a name was an internal error."""
    assert "server.host" in folder.refused(f"{LEAST}[server]\nhost = {json.dumps(host)}")


def test_a_file_that_is_no_configuration_is_not_read_whole(folder: Folder):
    """Such as a disk image, or a device without an end."""
    with folder.file.open("wb") as file:
        file.truncate(3 << 30)  # sparse: it takes no disk
    folder.file.chmod(0o600)
    with pytest.raises(SettingsInvalid, match="larger than 16 MiB"):
        load(folder.file, {})
    with pytest.raises(SettingsInvalid, match="larger than 16 MiB"):
        load(Path("/dev/zero"), {})
