"""MongoDB over TLS, as the URI says: the right authority is believed, any other is not."""

from pathlib import Path

import pytest

from daemon.adapters.mongo.embedded_mongod import HOST, spawn_mongod
from tests.certificates import Certified
from tests.support.ports import free_port


@pytest.fixture
def tls_mongod(tmp_path: Path):
    """A standalone mongod that speaks TLS only; yields its URI and a stranger's authority."""
    authority, stranger = Certified.made("authority"), Certified.made("stranger")
    server = Certified.made("server", issuer=authority)
    (tmp_path / "server.pem").write_bytes(server.public + server.key)
    (tmp_path / "ca.pem").write_bytes(authority.public)
    (tmp_path / "stranger.pem").write_bytes(stranger.public)
    (tmp_path / "db").mkdir()
    port = free_port()
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
