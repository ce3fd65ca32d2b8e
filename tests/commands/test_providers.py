"""`refreshd providers NAME` says in words what each key of a definition changes."""

import json
import tomllib

import pytest

from daemon.commands.providers import _explain, to_configure
from daemon.commands.support.output import Output
from daemon.runtime.config.providers.definitions import read_definition

PLAIN = 'token_url = "https://acme.example/token"\n'
POST = PLAIN + 'client_auth = "post"\n'
CONSENT = 'authorize_url = "https://acme.example/authorize"\n'


def definition(text: str):
    return read_definition("acme", tomllib.loads(text))


def told(text: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The explanation, on one line."""
    _explain(Output(as_json=False), definition(text), {})
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            POST + "method = 'GET'\nbody = 'query'\nrepeatable = true",
            "Repetition harmless, by the provider's word",
        ),
        (POST + "omit = ['grant_type']", "Left out grant_type"),
        (PLAIN + "client_auth = 'omitted'", "nothing names the client in a refresh"),
        (
            POST + CONSENT + "exchange_url = 'https://acme.example/code'",
            "Codes are exchanged at https://acme.example/code",
        ),
        (
            PLAIN + "client_auth = 'none'\nexchange_auth = 'post'\n" + CONSENT,
            "Client authentication with a code post",
        ),
        (POST + "echo = ['resource']", "Sent back from the last reply resource"),
        (POST + "success = { field = 'code', values = ['0'] }", "A grant has code = 0"),
        (POST + "rejected = [{ status = [400], alone = true }]", "any error with status 400"),
        (
            POST + "rejected = [{ field = 'a', values = ['x'], also = { field = 'b', pattern = 'y' } }]",
            "a = x and b = y",
        ),
        (
            POST + "misconfigured = [{ field = 'a', values = ['x'], reach = 'token' }]",
            "a = x (for that token only: the others go on)",
        ),
        (
            POST + "misconfigured = [{ field = 'a', values = ['x'], tenant = true }]",
            "a = x (for that tenant only: the others go on)",
        ),
        (
            POST + "misconfigured = [{ field = 'a', values = ['x'], reach = 'provider' }]",
            "a = x (for all, if several fail alike)",
        ),
        (POST + "grace = 'until_used'", "Grace period until a new token is used"),
        (POST + "grace = 'until_used 60m'", "until a new token is used, at most 60 min"),
        (POST + "ends_previous = true", "Previous access token ends immediately with a renewal"),
        (POST + "live_tokens = 10", "Live tokens at most 10 for one account and client"),
        (POST + "retires = 2026-11-02", "Retires on 2026-11-02"),
        (POST + "renew_every = '7d'", "Renewal at an age of 7 d"),
        (
            POST + "refresh_idle = '60d'\nrefresh_idle_from = 'replacement'",
            "60 d, extended only by a replacement",
        ),
        (POST + "rate = ['10/s', '200/15m']", "10 times in 1 s and 200 times in 15 min"),
        (POST + "spends_on_refusal = true", "no request until `refreshd resume` or another client"),
        (
            PLAIN + "client_auth = 'private_key_jwt'\nassertion_algorithms = ['RS384', 'ES384']",
            "Signed RS384 or ES384, for the token URL",
        ),
        (
            PLAIN
            + "client_auth = 'private_key_jwt'\nassertion_audience = 'issuer'\nissuer = 'https://acme.example'",
            "Signed as the key's type has it, for the issuer",
        ),
    ],
)
def test_each_key_is_told_in_words(text, words, capsys):
    """An operator reads what will happen before it does."""
    assert words in told(text, capsys)


def test_a_definition_with_all_of_them_is_a_record_too(capsys):
    """Of JSON's own types."""
    text = POST + (
        "rate = ['10/s', '200/15m']\nretires = 2026-11-02\ngrace = 'until_used 60m'\nomit = ['grant_type']\n"
        "body = 'json'\nparams = { a = true, b = ['x'] }\necho = ['resource']\n"
        "success = { field = 'code', values = ['0'] }\n"
    )
    _explain(Output(as_json=True), definition(text), {})
    record = json.loads(capsys.readouterr().out)
    assert (record["retires"], len(record["rate"])) == ("2026-11-02", 2)
    assert (record["params"], record["echo"]) == ({"a": True, "b": ["x"]}, ["resource"])
    assert (record["grace"], record["grace_until_used"], record["omit"]) == (3600, True, ["grant_type"])


@pytest.mark.parametrize(
    ("rate", "expected"),
    [("", None), ("rate = '10/s'", "10/1 s"), ("rate = ['10/s', '5/m']", ["10/1 s", "5/60 s"])],
)
def test_one_rate_is_a_text_in_the_record_as_it_always_was(rate, expected, capsys):
    """Programs may read it."""
    _explain(Output(as_json=True), definition(POST + rate), {})
    assert json.loads(capsys.readouterr().out)["rate"] == expected


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (PLAIN + "client_auth = 'omitted'", ["[providers.acme]"]),
        (
            PLAIN + CONSENT + "client_auth = 'omitted'",
            ["[providers.acme]", 'client_id = "..."', 'client_secret = { env = "ACME_CLIENT_SECRET" }'],
        ),
    ],
)
def test_without_a_client_nothing_is_to_be_configured_but_for_consents(text, lines):
    """A code is exchanged with the client, even where a refresh knows none."""
    assert to_configure(definition(text)).splitlines() == lines
