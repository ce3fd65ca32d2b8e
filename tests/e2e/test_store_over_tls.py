"""MongoDB over TLS, as the URI says: the right authority is believed, any other is not."""

import socket
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from daemon.adapters.embedded_mongod import HOST, spawn_mongod


def certificate(name: str, *, issuer: tuple | None = None) -> tuple:
    """A certificate and its key; its own authority where none is given."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), critical=False)
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    return made, key


def pem(made: tuple, *, with_key: bool) -> bytes:
    text = made[0].public_bytes(serialization.Encoding.PEM)
    if with_key:
        text += made[1].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    return text


@pytest.fixture
def tls_mongod(tmp_path: Path):
    """A standalone mongod that speaks TLS only; yields its URI and a stranger's authority."""
    authority, stranger = certificate("authority"), certificate("stranger")
    (tmp_path / "server.pem").write_bytes(pem(certificate("server", issuer=authority), with_key=True))
    (tmp_path / "ca.pem").write_bytes(pem(authority, with_key=False))
    (tmp_path / "stranger.pem").write_bytes(pem(stranger, with_key=False))
    (tmp_path / "db").mkdir()
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    options = ["--dbpath", str(tmp_path / "db"), "--port", str(port), "--bind_ip", HOST, "--nounixsocket"]
    tls = ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(tmp_path / "server.pem")]
    trust = ["--tlsCAFile", str(tmp_path / "ca.pem"), "--tlsAllowConnectionsWithoutCertificates"]
    child = spawn_mongod([*options, *tls, *trust], log=tmp_path / "mongod.log")
    try:
        yield f"mongodb://{HOST}:{port}/?tls=true&tlsCAFile={tmp_path}"
    finally:
        child.kill()
        child.wait()


async def test_the_uri_decides_whom_to_believe(install, tls_mongod):
    """With the server's authority the daemon becomes ready; with another it stays up and says what is wrong."""
    place = install({})
    place.configure({**place.tables, "store": {"uri": f"{tls_mongod}/ca.pem"}})
    async with place.running() as daemon:
        await daemon.ready()
        assert await daemon.stop() == 0
    place.configure({**place.tables, "store": {"uri": f"{tls_mongod}/stranger.pem"}})
    async with place.running() as daemon:
        lost = await daemon.event("store.lost")
        assert "certificate verify failed" in lost["message"]
        assert await daemon.stop() == 0
