"""The settings of `refreshd serve`: what is required, what is refused, and what is not even read."""

import json
import os
from base64 import b64encode
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.adapters.keyring import DecryptionError, KeyRing
from daemon.domain.provider import Rate
from daemon.runtime.config.access import load_access
from daemon.runtime.config.settings import SettingsInvalid, load

KEY = os.urandom(32)
RING = KeyRing({"a": KEY, "b": os.urandom(32)}, active="a")


def reader_lines(*key_ids: str) -> str:
    return "\n".join(
        json.dumps(
            {
                "field": "access_token",
                "key_id": one,
                "key": b64encode(RING.field_key("access_token", one)).decode(),
            }
        )
        for one in key_ids
    )


def writer_lines(*key_ids: str, fields: tuple[str, ...] = ("refresh_token",)) -> str:
    return "\n".join(
        json.dumps(
            {
                "field": field,
                "key_id": one,
                "public_key": b64encode(RING.writer_seal(field, one).public_key).decode(),
                "mac_key": b64encode(RING.writer_seal(field, one).mac_key).decode(),
                "fingerprint_key": b64encode(RING.field_key("grant_fingerprint", one)).decode(),
            }
        )
        for one in key_ids
        for field in fields
    )


def written(directory: Path, text: str) -> Path:
    file = directory / "config.toml"
    file.touch(mode=0o600)
    file.write_text(f'[store]\nuri = "mongodb://db.example/"\n{text}')
    return file


@pytest.fixture
def keys(tmp_path: Path) -> Mapping[str, str]:
    return {"READERS": reader_lines("b", "a"), "WRITER": writer_lines("a")}


DOOR = '[keys]\nreaders = { env = "READERS" }\nwriter = { env = "WRITER" }\n'


def test_reader_and_writer_keys_are_enough(tmp_path: Path, keys: Mapping[str, str]):
    settings = load_access(written(tmp_path, DOOR), keys)
    assert settings.keys.reader == "b"  # the first line's
    assert settings.keys.writer == "a"
    assert not settings.with_ring
    assert not settings.definitions
    assert (settings.access.host, settings.access.port, settings.access.rate.count) == (
        "127.0.0.1",
        9465,
        600,
    )
    assert settings.access.rate_per_caller is None


def test_a_rate_of_each_caller_is_read(tmp_path: Path, keys: Mapping[str, str]):
    settings = load_access(written(tmp_path, DOOR + '[access]\nrate_per_caller = "120/1m"\n'), keys)
    assert settings.access.rate_per_caller == Rate(count=120, per=timedelta(minutes=1))


def test_a_ring_does_as_well(tmp_path: Path):
    text = '[keys]\nactive = "a"\n[keys.ring]\na = { env = "KEY" }\n'
    settings = load_access(written(tmp_path, text), {"KEY": b64encode(KEY).decode()})
    assert settings.with_ring
    sealed = settings.keys.seal("text", token_id="acme:me", field="refresh_token")
    assert RING.open(sealed, token_id="acme:me", field="refresh_token") == "text"
    assert "text" not in repr(settings)
    assert b64encode(KEY).decode() not in repr(settings)


def test_neither_a_ring_nor_clients_are_resolved_beside_door_keys(tmp_path: Path, keys: Mapping[str, str]):
    text = DOOR.replace("[keys]", '[keys]\nactive = "a"') + (
        '[keys.ring]\na = { file = "/nowhere" }\n'
        '[providers.xero]\nclient_id = "x"\nclient_secret = { env = "NOT_SET" }\n'
        '[server]\nbearer_token = { env = "NOT_SET" }\n'
        '[refresh]\nproxy = { env = "NOT_SET" }\nwindow = "7m"\n'
    )
    settings = load_access(written(tmp_path, text), keys)
    assert list(settings.definitions) == ["xero"]
    assert settings.timing.window.total_seconds() == 420
    assert settings.keys.reader == "a"


def test_one_file_serves_the_daemon_too(tmp_path: Path, keys: Mapping[str, str]):
    text = (
        '[keys]\nactive = "a"\nreaders = { file = "/nowhere" }\nwriter = { file = "/nowhere" }\n'
        '[keys.ring]\na = { env = "KEY" }\n[access]\nport = 9999\ntls = { cert = "c", key = { env = "NOT_SET" } }\n'
    )
    assert load(written(tmp_path, text), {"KEY": b64encode(KEY).decode()}).keys.active == "a"
    only_door = written(tmp_path, DOOR)
    with pytest.raises(SettingsInvalid, match=r"keys\.ring: is required"):
        load(only_door, keys)


@pytest.mark.parametrize("url", ["https://t.example/tokens", "https://t.example/tokens/"])
def test_a_slash_at_the_end_of_the_public_url_makes_no_difference(tmp_path: Path, keys, url: str):
    """Paths are appended to it. With two slashes they would lead nowhere."""
    settings = load_access(written(tmp_path, f'{DOOR}[access]\npublic_url = "{url}"\n'), keys)
    assert settings.access.public_url == "https://t.example/tokens"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "keys"),
        (DOOR + '[access]\nhost = "0.0.0.0"\n', "access.host: is not a loopback address"),
        (DOOR + "[access]\nprot = 1\n", "Did you mean port?"),
        (DOOR + '[access]\nport = "9465"\n', "Write a number in this range, without quotes."),
        (DOOR + '[access]\nunbound_connect = "true"\n', "Write true or false, without quotes."),
        (DOOR + '[access]\ntrusted_proxies = "[]"\n', "must be a list"),
        (DOOR + '[access]\noffline_for = "2h"\n', "offline_for: is longer than an hour"),
        (DOOR + '[access]\npublic_url = "http://tokens.example.com"\n', "public_url: is not an https URL"),
        *(
            (DOOR + f'[access]\npublic_url = "{url}"\n', "public_url: has a user or a query")
            for url in (
                "https://t.example/?a=1",
                "https://t.example?",
                "https://me@t.example",
                "https://:@t.example",
            )
        ),
        (
            DOOR + '[access]\nreconnect_url = "https://app.example.com/"\n',
            "reconnect_url: does not contain {id}",
        ),
        (DOOR + '[access]\ntrusted_proxies = ["10.0.0.1/8"]\n', "trusted_proxies"),
        (DOOR + '[access]\naudit_reads_retention = "1h"\n', "audit_reads_retention: is shorter than a day"),
        *(
            (DOOR + f'[access]\nreturn_urls = ["{url}"]\n', words)
            for url, words in (
                ("http://app.example.com/", "is not an https URL"),
                ("app.example.com", "is not an https URL"),
                ("https://me@app.example.com/", "is not a URL that a browser can be sent to"),
                ("https://app.example.com/#x", "is not an https URL"),
                ("https://app.example.com/?error=1", "is not a URL that a browser can be sent to"),
            )
        ),
        (DOOR + '[access]\nunbound_connect = "yes"\n', "unbound_connect"),
        (DOOR + '[access]\nrate = "fast"\n', "rate: is not a rate"),
        (DOOR + '[access]\nrate_per_caller = "often"\n', "rate_per_caller: is not a rate"),
        (DOOR + '[access]\nrate_per_caller = "0/1m"\n', "rate_per_caller: is not a rate"),
        (DOOR + '[access]\nrate_per_caller = "5/0s"\n', "rate_per_caller: is not a rate"),
        (
            DOOR + '[access]\nhost = "10.0.0.1"\nbearer_token = "short"\ntrusted_proxies = ["10.0.0.2"]\n',
            "bearer_token",
        ),
        (DOOR + "[acess]\n", "Did you mean access?"),
        ('[keys]\nreaders = "no lines"\n', "keys.readers: is not what `refreshd keys reader` prints"),
        ('[keys]\nreaders = { env = "WRITER" }\n', "another field"),
        (DOOR.replace("WRITER", "READERS"), 'no line has the field "refresh_token"'),
        (DOOR + '[providers.nowhere]\nclient_id = "x"\n', "token_url"),
    ],
)
def test_every_problem_is_named(tmp_path: Path, keys: Mapping[str, str], text: str, words: str):
    with pytest.raises(SettingsInvalid) as invalid:
        load_access(written(tmp_path, text), keys)
    assert words in str(invalid.value)


def test_zero_offline_means_never(tmp_path: Path, keys: Mapping[str, str]):
    for zero in ("0", '"0s"'):
        settings = load_access(written(tmp_path, DOOR + f"[access]\noffline_for = {zero}\n"), keys)
        assert settings.access.offline_for.total_seconds() == 0


def test_consents_of_applications_are_off_until_they_are_configured(tmp_path: Path, keys: Mapping[str, str]):
    settings = load_access(written(tmp_path, DOOR), keys)
    assert (settings.access.return_urls, settings.access.unbound_connect) == ((), False)
    assert not settings.connects
    urls = '["https://app.example.com", "http://localhost:3000/back/"]'
    settings = load_access(written(tmp_path, DOOR + f"[access]\nreturn_urls = {urls}\n"), keys)
    assert settings.access.return_urls == ("https://app.example.com", "http://localhost:3000/back/")
    assert settings.connects


def test_the_client_is_known_by_its_id_alone(tmp_path: Path, keys: Mapping[str, str]):
    text = '[providers.xero]\nclient_id = "x"\nclient_secret = { env = "NOT_SET" }\n'
    provider = load_access(written(tmp_path, DOOR + text), keys).providers["xero"]
    assert (provider.client_id, provider.client_secret) == ("x", None)


def test_a_writer_key_seals_codes_for_the_ring(tmp_path: Path, keys: Mapping[str, str]):
    assert not load_access(written(tmp_path, DOOR), keys).keys.seals_codes  # the file of an earlier version
    lines = writer_lines("a", fields=("refresh_token", "code", "code_verifier"))
    door = load_access(written(tmp_path, DOOR), {**keys, "WRITER": lines}).keys
    assert door.seals_codes
    sealed = {field: door.seal("text", token_id="c1", field=field) for field in ("code", "code_verifier")}
    for field, text in sealed.items():
        assert text.startswith("w1.")
        assert RING.open(text, token_id="c1", field=field) == "text"
        with pytest.raises(DecryptionError):
            RING.open(text, token_id="c2", field=field)
    with pytest.raises(DecryptionError):
        RING.open(sealed["code"], token_id="c1", field="code_verifier")
    with pytest.raises(LookupError):
        load_access(written(tmp_path, DOOR), keys).keys.seal("text", token_id="c1", field="code")
