"""`refreshd keys wrap`: which key is wrapped, for what, and how each failure ends."""

import hashlib
from base64 import b64encode
from types import SimpleNamespace

import pytest

from daemon.adapters.secrets.errors import SecretAway, SecretMissing, SecretUnusable
from daemon.commands.support import wrapping
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import Options
from daemon.domain.secret_reference import WrappedKey
from daemon.runtime.config import wrapped_keys
from daemon.runtime.config.problems import InvalidValue

ARN = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
KEY = hashlib.sha256(b"for these tests").digest()
CONFIG = f"""
[store]
uri = "mongodb://127.0.0.1:1/"
[state]
dir = "state"
[keys]
active = "main"
installation = "prod"
[keys.ring]
main = "{b64encode(KEY).decode()}"
"""


@pytest.fixture
def options(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(CONFIG)
    file.chmod(0o600)
    return Options(config=file)


@pytest.fixture
def kms(monkeypatch):
    """The adapter, with a failure that a test sets."""
    fake = SimpleNamespace(asked=[], failure=None, is_arn=lambda text: text == ARN)

    async def wrap(key, *, kms_key, key_id, installation):
        fake.asked.append(key)
        if fake.failure is not None:
            raise fake.failure
        return WrappedKey(kms_key=kms_key, wrapped="eA==", key_id=key_id, installation=installation)

    fake.wrap = wrap
    for module in (wrapping, wrapped_keys):
        monkeypatch.setattr(module, "kms_module", lambda: fake)
    monkeypatch.setattr(wrapping, "confine", lambda: None)  # of this process, for good
    monkeypatch.setattr("daemon.commands.support.access.confine", lambda: None)
    return fake


def failed(options, *given, new=False):
    with pytest.raises(Failed) as caught:
        wrapping.wrapped(options, *given, new=new)
    return caught.value.code, str(caught.value)


def test_the_key_of_the_ring_is_wrapped_for_its_place(options, kms):
    made = wrapping.wrapped(options, "main", f"aws:{ARN}", new=False)
    assert made == WrappedKey(kms_key=ARN, wrapped="eA==", key_id="main", installation="prod")
    assert kms.asked == [KEY]


def test_a_new_key_needs_no_valid_configuration(options, kms):
    """It may lack just this key. Each is another one."""
    options.config.write_text(CONFIG.partition("main =")[0])
    for _ in range(2):
        assert wrapping.wrapped(options, "main", f"aws:{ARN}", new=True).installation == "prod"
    assert len(set(kms.asked)) == 2
    assert all(len(key) == 32 for key in kms.asked)


def test_a_key_that_is_not_on_the_ring(options, kms):
    code, text = failed(options, "other", f"aws:{ARN}")
    assert code == Exit.USAGE
    assert "it has no key 'other'. Use one of: main; or make a new key with --new" in text


def test_a_new_key_takes_no_id_that_is_taken(options, kms):
    """A second key under the id of the first would open none of its tokens."""
    assert failed(options, "main", f"aws:{ARN}", new=True)[0] == Exit.USAGE
    assert kms.asked == []


@pytest.mark.parametrize("kms_key", ["", ARN, "aws:alias/main", "gcp:projects/p"])
@pytest.mark.parametrize("new", [False, True])
def test_another_form_of_key(options, kms, kms_key, new):
    code, text = failed(options, "main", kms_key, new=new)
    assert code == Exit.USAGE
    assert text.startswith("--kms: is not a key of AWS KMS by its ARN")


@pytest.mark.parametrize("key_id", ["", "a b", "x" * 65, 'x" = 1'])
def test_an_id_that_would_break_the_line(options, kms, key_id):
    assert failed(options, key_id, f"aws:{ARN}", new=True)[0] == Exit.USAGE
    assert kms.asked == []


def test_a_faulty_name_of_the_installation(options, kms):
    options.config.write_text(CONFIG.replace('"prod"', '"a b"').partition("main =")[0])
    code, text = failed(options, "main", f"aws:{ARN}", new=True)
    assert code == Exit.CONFIG
    assert text.startswith("keys.installation: ")


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (SecretAway("AWS KMS denies access (AccessDeniedException)"), Exit.UNAVAILABLE),
        (SecretMissing("AWS KMS has no key arn"), Exit.FAILED),
        (SecretUnusable("AWS KMS has answered in another form"), Exit.FAILED),
    ],
)
def test_a_failure_of_kms(options, kms, failure, code):
    kms.failure = failure
    assert failed(options, "main", f"aws:{ARN}")[0] == code


def test_without_the_library_the_extra_is_named(options, monkeypatch, kms):
    def missing():
        raise InvalidValue("AWS KMS needs the library of the extra refreshd[aws]", "Install it.")

    for module in (wrapping, wrapped_keys):
        monkeypatch.setattr(module, "kms_module", missing)
    code, text = failed(options, "main", f"aws:{ARN}")
    assert code == Exit.CONFIG
    assert "refreshd[aws]" in text
