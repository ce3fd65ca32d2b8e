"""Ring entries that KMS has wrapped: each failure is one problem of the configuration, with what to do."""

import asyncio
import hashlib
import sys
from base64 import b64encode
from datetime import date
from types import SimpleNamespace

import pytest

from daemon.adapters.secrets.errors import SecretAway, SecretMissing, SecretUnusable
from daemon.runtime.config.access import load_access
from daemon.runtime.config.problems import SecretsAway
from daemon.runtime.config.settings import SettingsInvalid, load
from tests.adapters.secrets.conftest import ARN

KEY = hashlib.sha256(b"for these tests").digest()
ENTRY = f'{{ kms = "aws:{ARN}", wrapped = "d3JhcHBlZA==" }}'
CONFIG = """
[store]
uri = "mongodb://127.0.0.1:1/"
[state]
dir = "state"
[keys]
active = "main"
{more}
[keys.ring]
{lines}
"""


@pytest.fixture
def file(tmp_path):
    def write(lines, more=""):
        (tmp_path / "config.toml").write_text(CONFIG.format(lines=lines, more=more))
        (tmp_path / "config.toml").chmod(0o600)
        return tmp_path / "config.toml"

    return write


@pytest.fixture
def kms(monkeypatch):
    """The adapter, with an answer that a test sets."""
    fake = SimpleNamespace(asked=[], answer=b64encode(KEY).decode(), is_arn=lambda text: text == ARN)

    async def read(reference):
        fake.asked.append(reference)
        if isinstance(fake.answer, Exception):
            raise fake.answer
        return fake.answer

    fake.read = read
    monkeypatch.setitem(sys.modules, "daemon.adapters.secrets.kms", fake)
    return fake


def problems(path):
    with pytest.raises(SettingsInvalid) as caught:
        load(path, {})
    return [str(problem) for problem in caught.value.problems]


def test_each_entry_is_unwrapped_for_its_id_and_the_installation(file, kms):
    settings = load(file(f"main = {ENTRY}\nolder = {ENTRY}", 'installation = "prod"'), {})
    assert {name: one.key for name, one in settings.keys.ring.items()} == {"main": KEY, "older": KEY}
    assert [(each.key_id, each.installation) for each in kms.asked] == [("main", "prod"), ("older", "prod")]
    assert {each.kms_key for each in kms.asked} == {ARN}


def test_the_installation_has_a_usual_name(file, kms):
    assert load(file(f"main = {ENTRY}"), {}).keys.installation == "refreshd"
    assert kms.asked[0].installation == "refreshd"


def test_the_environment_may_name_the_installation(file, kms):
    path = file(f'main = "{b64encode(KEY).decode()}"', 'installation = "prod"')
    env = {"REFRESHD_KEYS__INSTALLATION": "staging"}
    assert load(path, env).keys.installation == "staging"


def test_a_loop_that_runs_is_no_obstacle(file, kms):
    path = file(f"main = {ENTRY}")

    async def in_a_loop():
        return load(path, {})

    assert asyncio.run(in_a_loop()).keys.ring["main"].key == KEY


def test_the_access_service_derives_its_keys_from_a_wrapped_one(file, kms):
    path = file(f"main = {ENTRY}", 'installation = "prod"')
    path.write_text(path.read_text() + "\n[access]\nport = 0\n")
    assert load_access(path, {}).with_ring
    assert kms.asked[0].installation == "prod"


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (SecretAway("the KMS key arn is disabled (DisabledException)"), "is disabled"),
        (SecretMissing("AWS KMS has no key arn"), "has no key"),
        (SecretUnusable("AWS KMS does not unwrap it: it was wrapped for another key id"), "another key id"),
    ],
)
def test_a_key_that_cannot_be_unwrapped_is_waited_for(file, kms, failure, said):
    """A key that was disabled by mistake is enabled again, and the daemon then starts by itself."""
    kms.answer = failure
    with pytest.raises(SecretsAway) as caught:
        load(file(f"main = {ENTRY}"), {})
    (waiting,) = caught.value.waiting
    assert "keys.ring.main" in str(waiting)
    assert said in str(waiting)
    assert "d3JhcHBlZA" not in str(waiting)


@pytest.mark.parametrize("weak", [bytes(32), b"0123456789abcdef" * 2])
def test_a_wrapped_key_may_not_be_weak_either(file, kms, weak):
    kms.answer = b64encode(weak).decode()
    with pytest.raises(SecretsAway, match="is a weak key"):
        load(file(f"main = {ENTRY}"), {})


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (f'{{ kms = "aws:{ARN}" }}', "not a wrapped key"),
        (f'{{ kms = "aws:{ARN}", wrapped = 7 }}', "not a wrapped key"),
        (f'{{ kms = "aws:{ARN}", wrapped = "eA==", env = "X" }}', "not a secret"),
        ('{ kms = ["aws"], wrapped = "eA==" }', "not a wrapped key"),
        (f'{{ kms = "{ARN}", wrapped = "eA==" }}', "not a key of AWS KMS"),
        ('{ kms = "aws:alias/main", wrapped = "eA==" }', "not a key of AWS KMS"),
        ('{ kms = "gcp:projects/p", wrapped = "eA==" }', "not a key of AWS KMS"),
    ],
)
def test_an_entry_of_another_form_is_not_sent(file, kms, entry, said):
    found = problems(file(f"main = {entry}"))
    assert any(said in problem and "keys.ring.main" in problem for problem in found), found
    assert kms.asked == []


@pytest.mark.parametrize("name", ['""', '"a b"', "7", '"' + "x" * 65 + '"'])
def test_a_name_of_an_installation(file, kms, name):
    (problem,) = problems(file(f'main = "{b64encode(KEY).decode()}"', f"installation = {name}"))
    assert "is not the name of an installation" in problem


def test_other_secrets_are_not_wrapped(file, kms):
    path = file(f'main = "{b64encode(KEY).decode()}"')
    path.write_text(path.read_text() + f"\n[server]\nbearer_token = {ENTRY}\n")
    (problem,) = problems(path)
    assert "server.bearer_token" in problem
    assert kms.asked == []


def test_without_the_library_the_extra_is_named(file, monkeypatch):
    """In place of a traceback."""
    monkeypatch.setitem(sys.modules, "botocore.auth", None)
    for name in ("kms", "aws_request"):
        monkeypatch.delitem(sys.modules, f"daemon.adapters.secrets.{name}", raising=False)
    (problem,) = problems(file(f"main = {ENTRY}"))
    assert "refreshd[aws]" in problem
    assert "requirements/aws.txt" in problem


def test_clouds_are_imported_only_when_named():
    import subprocess

    code = (
        "import sys, daemon.runtime.config.settings, daemon.commands.keys;"
        "print(*sorted(name for name in sys.modules if name.startswith(('botocore', 'daemon.adapters.secrets.'))))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["daemon.adapters.secrets.command", "daemon.adapters.secrets.errors"]


def test_a_wrapped_key_has_a_date_and_a_use_like_any_other(file, kms):
    dated = ENTRY.replace(" }", ', created = 2026-11-01, use = "open" }')
    keys = load(file(f"main = {ENTRY}\nolder = {dated}"), {}).keys
    assert (keys.ring["older"].key, keys.ring["older"].created) == (KEY, date(2026, 11, 1))
    assert "older" not in (keys.writers or ())
