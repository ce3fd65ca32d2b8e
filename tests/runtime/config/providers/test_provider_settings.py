"""How a client proves itself, and the proxy: what is accepted, and what is refused by which key."""

import base64
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from daemon.domain.provider import ClientAuth
from daemon.domain.secret import Secret
from daemon.runtime.config.providers.provider_settings import even_share, most_in_flight, overcommitted
from daemon.runtime.config.settings import Settings, SettingsInvalid, load

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
URL = "https://sso.example.com/token"
LEAST = f"""
[store]
uri = "embedded"
[keys]
active = "a"
[keys.ring]
a = "{base64.b64encode(hashlib.sha256(b"for these tests").digest()).decode()}"
"""


class Folder:
    """A configuration in a directory of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str) -> None:
        file = self.path / name
        file.write_text(text)
        file.chmod(0o600)

    def load(self, text: str, **env: str) -> Settings:
        self.write("config.toml", LEAST + text)
        return load(self.path / "config.toml", env)

    def provider(self, keys: str) -> Settings:
        return self.load(f'[providers.p]\ntoken_url = "{URL}"\n{keys}')

    def refused(self, text: str) -> dict[str, str]:
        """The problems: the key's path -> all that is said."""
        with pytest.raises(SettingsInvalid) as raised:
            self.load(text)
        return {
            problem.where.rpartition(": ")[2]: f"{problem.what}. {problem.do}"
            for problem in raised.value.problems
        }

    def refused_provider(self, keys: str) -> dict[str, str]:
        found = self.refused(f'[providers.p]\ntoken_url = "{URL}"\n{keys}')
        assert all(where.startswith("providers.p.") for where in found)
        return {where.removeprefix("providers.p."): said for where, said in found.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


# ---------------------------------------------------------------- private_key_jwt


def test_a_client_can_prove_itself_by_a_key(folder):
    """The key's file is read and used; its name and our client id are in what it signs."""
    folder.write("key.pem", pem(ed25519.Ed25519PrivateKey.generate()))
    [provider] = folder.provider(
        'client_auth = "private_key_jwt"\nclient_id = "me"\nclient_key = { file = "key.pem" }\nclient_key_id = "k1"'
    ).providers.values()
    assert provider.client_assertion is not None
    header, claims = provider.client_assertion(URL, NOON).reveal().split(".")[:2]
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {"alg": "EdDSA", "typ": "JWT", "kid": "k1"}
    assert json.loads(base64.urlsafe_b64decode(claims + "=="))["sub"] == "me"
    assert provider.client_secret is None


@pytest.mark.parametrize(
    ("keys", "where", "said"),
    [
        ('client_auth = "private_key_jwt"', "client_key", "is required"),
        (
            'client_auth = "private_key_jwt"\nclient_key = { file = "none.pem" }',
            "client_key",
            "can't be read",
        ),
        ('client_auth = "private_key_jwt"\nclient_key = { file = "weak.pem" }', "client_key", "weak"),
        (
            'client_auth = "private_key_jwt"\nclient_key = { file = "text.pem" }',
            "client_key",
            "not a private key",
        ),
        (
            'client_auth = "private_key_jwt"\nclient_key = { file = "good.pem" }\nclient_secret = "s3cret"',
            "client_secret",
            "never sent",
        ),
        (
            'client_auth = "post"\nclient_secret = "s3cret"\nclient_key = { file = "good.pem" }',
            "client_key",
            "not used",
        ),
        (
            'client_auth = "private_key_jwt"\nassertion_algorithms = ["RS384"]\nclient_key = { file = "good.pem" }',
            "client_key",
            "this provider takes RS384",
        ),
        ('client_auth = "none"\nclient_key_id = "k1"', "client_key_id", "not used"),
        ('client_auth = "none"\nclient_secret = "s3cret"', "client_secret", "never sent"),
        ('client_auth = "basic"', "client_secret", "is required"),
        ('client_auth = "basic_plain"', "client_secret", "is required"),
        ('client_id = "a:b"\nclient_auth = "basic_plain"\nclient_secret = "s3cret"', "client_id", "a colon"),
        ('client_auth = "secret_as_user"', "client_secret", "is required"),
    ],
)
def test_what_does_not_fit_the_way_of_proving_is_refused(folder, keys, where, said):
    """One problem, at its own key, and it quotes nothing."""
    folder.write("good.pem", pem(ed25519.Ed25519PrivateKey.generate()))
    folder.write("weak.pem", pem(rsa.generate_private_key(65537, 1024)))
    folder.write("text.pem", "canary")
    client = "" if "client_id =" in keys else 'client_id = "me"\n'
    found = folder.refused_provider(f"{client}{keys}")
    assert list(found) == [where]
    assert said in found[where]
    assert "s3cret" not in found[where]
    assert "canary" not in found[where]


def test_a_secret_in_the_users_place_needs_no_client_id(folder):
    """It alone is sent."""
    [provider] = folder.provider(
        'client_auth = "secret_as_user"\nclient_secret = "s3cret"'
    ).providers.values()
    assert provider.client_secret == Secret("s3cret")


@pytest.mark.parametrize("secret", [None, "s3cret"])
def test_a_secret_that_only_codes_need_may_be_there_or_not(folder, secret):
    """Renewals go on without it, for an application that asks for its consents itself."""
    more = f'client_secret = "{secret}"' if secret else ""
    [provider] = folder.provider(
        f'client_id = "me"\nclient_auth = "none"\nexchange_auth = "post"\n{more}'
    ).providers.values()
    assert provider.client_secret == (secret and Secret(secret))


@pytest.mark.parametrize("auth", ["basic", "post", "none", "private_key_jwt"])
def test_the_others_need_a_client_id(folder, auth):
    """Its absence is told beside the other problems."""
    assert "is required" in folder.refused_provider(f'client_auth = "{auth}"')["client_id"]


def test_the_possible_words_are_all_named(folder):
    """Where client_auth is missing, and where it is misspelt."""
    missing = folder.refused_provider('client_id = "me"')["client_auth"]
    misspelt = folder.refused_provider('client_id = "me"\nclient_auth = "baisc"')["client_auth"]
    for word in ClientAuth:
        assert word in missing
        assert word in misspelt


# ---------------------------------------------------------------- the proxy


@pytest.mark.parametrize(
    "url",
    [
        "http://proxy.example:3128",
        "https://proxy.example",
        "http://[fd00::1]:3128/",
        "http://us%40er:p%3Ass@10.0.0.1:80",
    ],
)
def test_a_proxy_can_be_given(folder, url):
    """As text, in a file or in the environment; it never prints itself."""
    folder.write("proxy", f"{url}\n")
    ways = [
        folder.load(f'[refresh]\nproxy = "{url}"'),
        folder.load('[refresh]\nproxy = { file = "proxy" }'),
        folder.load("", REFRESHD_REFRESH__PROXY=url),
    ]
    assert [one.refresh.proxy for one in ways] == [Secret(url)] * 3
    assert "proxy.example" not in repr(ways[0].refresh)


def test_no_proxy_is_the_default(folder):
    """Also where the environment has one for others."""
    assert folder.load("", http_proxy="http://127.0.0.1:1").refresh.proxy is None


@pytest.mark.parametrize(
    "url",
    [
        "proxy.example:3128",
        "socks5://proxy.example",
        "ftp://proxy.example",
        "http://",
        "http://:3128",
        "http://proxy.example:0",
        "http://proxy.example:99999",
        "http://[::1",
        "http://proxy.example/path",
        "http://proxy.example?s3cret",
        "http://proxy.example#s3cret",
        "http://pro xy.example",
        "http://me:s3cret@word@proxy.example",
        "",
    ],
)
def test_what_is_no_proxy_is_refused(folder, url):
    """By its key, without quoting it: it may hold a password."""
    found = folder.refused(f'[refresh]\nproxy = "{url}"')
    assert list(found) == ["refresh.proxy"]
    assert "s3cret" not in found["refresh.proxy"]


# ---------------------------------------------------------------- shares


@pytest.mark.parametrize(
    ("own", "share"),
    [
        ([None], 256),  # nobody else is there
        ([None, None], 64),
        ([None] * 38, 3),
        ([200, None], 56),  # nobody else has to share
        ([200, None, None], 14),
        ([200, *[None] * 9], 3),
        ([256, None], 1),
        ([200, 100, None, None], 1),
        ([None] * 500, 1),
        ([7, 8], 241),
    ],
)
def test_what_is_guaranteed_to_those_without_a_concurrency_of_their_own(own, share):
    """Half of what the others leave, evenly; and one request is always there."""
    assert even_share(own, 256) == share


def configured(own: list[int | None]) -> str:
    client = f'token_url = "{URL}"\nclient_auth = "none"\nclient_id = "me"\n'
    return "".join(
        f"[providers.p{number}]\n{client}" + (f"concurrency = {most}\n" if most else "")
        for number, most in enumerate(own)
    )


@pytest.mark.parametrize(
    ("own", "most", "named"),
    [
        ([None, None], 256, None),
        ([128, 128], 256, None),
        ([1], 256, None),
        ([200, 100], 300, "2 providers have guarantees for 300 requests in total (p0 200, p1 100), "),
        ([16, 256, 1, None], 274, "4 providers have guarantees for 274 requests in total (p1 256, p0 16, p2 1, ...), "),
    ],
)  # fmt: skip
def test_shares_may_add_up_to_more_than_all_of_the_concurrency(folder, own, most, named):
    """It runs all the same, with connections and room for all of them, and says so."""
    settings = folder.load(configured(own))
    providers = settings.providers.values()
    assert most_in_flight(providers, settings.refresh.concurrency) == most
    said = overcommitted(providers, settings.refresh.concurrency)
    if named is None:
        assert said is None
    else:
        assert said == (named + f"more than refresh.concurrency (256): up to {most} can be in flight")


@pytest.mark.parametrize(
    ("keys", "share", "most"),
    [
        ("", 128, None),
        ("spends_on_refusal = true\n", 1, 1),
        ("spends_on_refusal = true\nconcurrency = 3\n", 3, 3),
    ],
)
def test_where_a_refused_call_costs_a_grant_one_request_is_under_way_at_a_time(folder, keys, share, most):
    """Unless the operator knows better. The other provider gets what it leaves."""
    client = f'token_url = "{URL}"\nclient_auth = "none"\nclient_id = "me"\n'
    found = folder.load(f"[providers.p]\n{client}{keys}[providers.q]\n{client}concurrency = 128\n").providers[
        "p"
    ]
    assert (found.share, found.most) == (share, most)
