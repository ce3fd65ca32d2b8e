"""Secrets in AWS and wrapped keys, beside a server that imitates Secrets Manager, Systems Manager and KMS."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from daemon.adapters.secrets import aws, kms
from daemon.adapters.secrets.errors import SecretAway, SecretMissing, SecretUnusable
from daemon.domain.secret_reference import AwsParameter, AwsSecret
from daemon.runtime.config.problems import SecretsAway
from daemon.runtime.config.settings import load

CANARY = "canary-secret-8d1f"
KEY = hashlib.sha256(b"for these tests").digest()


@pytest.fixture
def name():
    return f"refreshd/{uuid4().hex}"


@pytest.fixture
async def kms_key(owner):
    return (await owner("kms", "TrentService.CreateKey"))["KeyMetadata"]["Arn"]


# ---------------------------------------------------------------- Secrets Manager, Systems Manager


async def test_a_secret_and_a_field_of_one(owner, name):
    await owner(
        "secretsmanager",
        "secretsmanager.CreateSecret",
        Name=name,
        SecretString=json.dumps({"client_secret": CANARY}),
    )
    assert json.loads(await aws.read(AwsSecret(name=name))) == {"client_secret": CANARY}
    assert await aws.read(AwsSecret(name=name, field="client_secret")) == CANARY
    with pytest.raises(SecretMissing, match="has no field other"):
        await aws.read(AwsSecret(name=name, field="other"))
    await owner("secretsmanager", "secretsmanager.PutSecretValue", SecretId=name, SecretString="the-next-one")
    assert await aws.read(AwsSecret(name=name)) == "the-next-one"
    with pytest.raises(SecretMissing):
        await aws.read(AwsSecret(name=name, region="us-west-2"))


async def test_secrets_that_cannot_be_used(owner, name):
    """One that does not exist, one that waits for its deletion, and a binary one."""
    with pytest.raises(SecretMissing, match=f"no secret {name}"):
        await aws.read(AwsSecret(name=name))
    await owner("secretsmanager", "secretsmanager.CreateSecret", Name=name, SecretBinary="AP8=")
    with pytest.raises(SecretUnusable, match="is binary"):
        await aws.read(AwsSecret(name=name))
    await owner("secretsmanager", "secretsmanager.DeleteSecret", SecretId=name)
    with pytest.raises((SecretAway, SecretMissing)):
        await aws.read(AwsSecret(name=name))


async def test_a_parameter_is_decrypted(owner, name):
    await owner("ssm", "AmazonSSM.PutParameter", Name=f"/{name}", Value=CANARY, Type="SecureString")
    assert await aws.read(AwsParameter(name=f"/{name}")) == CANARY
    with pytest.raises(SecretMissing, match="no parameter"):
        await aws.read(AwsParameter(name=f"/{name}/other"))


# ---------------------------------------------------------------- KMS


async def test_a_key_is_wrapped_and_unwrapped(kms_key):
    made = await kms.wrap(KEY, kms_key=kms_key, key_id="main", installation="prod")
    assert made.kms_key == kms_key
    assert await kms.read(made) == base64.b64encode(KEY).decode()


@pytest.mark.parametrize("other", [{"key_id": "other"}, {"installation": "staging"}])
async def test_a_key_that_was_wrapped_for_another_use_is_refused(kms_key, other):
    from dataclasses import replace

    made = await kms.wrap(KEY, kms_key=kms_key, key_id="main", installation="prod")
    with pytest.raises(SecretUnusable, match="another key id"):
        await kms.read(replace(made, **other))


async def test_a_kms_key_that_does_not_exist(owner):
    gone = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
    with pytest.raises(SecretMissing, match="has no key"):
        await kms.wrap(KEY, kms_key=gone, key_id="main", installation="prod")


# ---------------------------------------------------------------- the command, and the configuration that it makes

CONFIG = """
[store]
uri = "mongodb://127.0.0.1:1/"
[state]
dir = "state"
[keys]
active = "main"
installation = "{installation}"
[keys.ring]
{lines}
"""


def refreshd(tmp_path: Path, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    given = {"PATH": os.environ["PATH"], **environment}
    command = [sys.executable, "-m", "daemon", "--config", str(tmp_path / "config.toml"), *words]
    return subprocess.run(command, cwd=Path(__file__).parents[2], env=given, capture_output=True, text=True, check=False, timeout=60)  # fmt: skip


def configured(tmp_path: Path, lines: str, installation: str = "prod") -> None:
    (tmp_path / "config.toml").write_text(CONFIG.format(lines=lines, installation=installation))
    (tmp_path / "config.toml").chmod(0o600)


def ring(tmp_path: Path) -> dict[str, bytes]:
    return {name: one.key for name, one in load(tmp_path / "config.toml", {}).keys.ring.items()}


def problem(tmp_path: Path) -> str:
    with pytest.raises(SecretsAway) as caught:
        load(tmp_path / "config.toml", {})
    (found,) = caught.value.waiting
    return str(found)


async def test_the_line_of_keys_wrap_opens_for_its_id_and_installation(tmp_path, environment, kms_key):
    """And for no other. (A disabled KMS key works at this server as before: tests/adapters/secrets has that answer.)"""
    configured(tmp_path, f'main = "{base64.b64encode(KEY).decode()}"')
    ran = refreshd(tmp_path, environment, "keys", "wrap", "main", "--kms", f"aws:{kms_key}")
    assert (ran.returncode, ran.stderr) == (0, "")
    line = ran.stdout.strip()
    configured(tmp_path, line)
    assert ring(tmp_path) == {"main": KEY}

    configured(tmp_path, line, installation="staging")
    assert "another installation than 'staging'" in problem(tmp_path)
    configured(tmp_path, f"{line}\n{line.replace('main', 'second', 1)}")
    assert "keys.ring.second" in problem(tmp_path)
    assert "another key id than 'second'" in problem(tmp_path)


async def test_a_new_key_is_shown_nowhere(tmp_path, environment, kms_key):
    configured(tmp_path, "")
    ran = refreshd(
        tmp_path, environment, "keys", "wrap", "main", "--kms", f"aws:{kms_key}", "--new", "--json"
    )
    made = json.loads(ran.stdout)
    assert set(made) == {"key_id", "kms", "wrapped", "installation"}
    assert (made["key_id"], made["kms"], made["installation"]) == ("main", f"aws:{kms_key}", "prod")
    configured(tmp_path, f'main = {{ kms = "{made["kms"]}", wrapped = "{made["wrapped"]}" }}')
    (key,) = ring(tmp_path).values()
    assert len(key) == 32
    assert base64.b64encode(key).decode() not in ran.stdout + ran.stderr
