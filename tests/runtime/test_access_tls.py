"""The certificate of `refreshd serve`: what can't be used is refused, and nothing is waited for."""

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from daemon.runtime.access.tls import SslInvalid, tls_context
from daemon.runtime.config.access import load_access
from tests.certificates import Certified
from tests.runtime.test_access_settings import DOOR, keys, written

__all__ = ["keys"]


def context(directory: Path, keys: Mapping[str, str], *, cert: str, key: bytes) -> ssl.SSLContext | None:
    file = directory / "key.pem"
    file.touch(mode=0o600)
    file.write_bytes(key)
    tls = f'[access]\nport = 0\ntls = {{ cert = "{cert}", key = {{ file = "key.pem" }} }}\n'
    return tls_context(load_access(written(directory, DOOR + tls), keys))


def test_a_certificate_and_its_key_are_used(tmp_path: Path, keys: Mapping[str, str]):
    made = Certified.made("localhost")
    (tmp_path / "cert.pem").write_bytes(made.public)
    assert context(tmp_path, keys, cert="cert.pem", key=made.key) is not None


@pytest.mark.parametrize("kind", ["pipe", "device", "directory"])
def test_a_certificate_that_is_no_file_is_refused(tmp_path: Path, keys: Mapping[str, str], kind: str):
    """OpenSSL would wait for the writer of a pipe, and read a device without end."""
    cert = Path("/dev/zero") if kind == "device" else tmp_path / kind
    if kind == "pipe":
        os.mkfifo(cert)
    elif kind == "directory":
        cert.mkdir()
    with pytest.raises(SslInvalid) as refused:
        context(tmp_path, keys, cert=str(cert), key=Certified.made("localhost").key)
    text = str(refused.value)
    assert text.startswith(f"access.tls.cert: {cert} can't be used: it is ")
    assert text.endswith("Name the file with the certificate in PEM.")
    assert kind in text


def test_an_encrypted_key_is_refused(tmp_path: Path, keys: Mapping[str, str]):
    """OpenSSL would ask for its passphrase at the terminal, and wait."""
    made = Certified.made("localhost")
    (tmp_path / "cert.pem").write_bytes(made.public)
    key = load_pem_private_key(made.key, None)
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase"))
    with pytest.raises(SslInvalid, match="the key is encrypted"):
        context(tmp_path, keys, cert="cert.pem", key=sealed)


def test_a_certificate_that_is_missing_is_refused(tmp_path: Path, keys: Mapping[str, str]):
    with pytest.raises(SslInvalid, match="No such file"):
        context(tmp_path, keys, cert="none.pem", key=Certified.made("localhost").key)
