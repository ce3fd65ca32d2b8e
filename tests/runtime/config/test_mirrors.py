"""`[[mirrors]]`: every fault is named, and a refresh token that rotates is shown only to whoever insists."""

import base64
import hashlib
import socket
from pathlib import Path
from typing import Any

import pytest

from daemon.domain.mirrored import Shown
from daemon.runtime.config.settings import Settings, SettingsInvalid, load

KEY = base64.b64encode(hashlib.sha256(b"for these tests").digest()).decode()
CONFIG = f"""
[store]
uri = "mongodb://127.0.0.1/"
[keys]
active = "a"
ring.a = "{KEY}"
[providers.xero]
client_id = "c"
client_secret = "s"
[providers.google]
client_id = "c"
client_secret = "s"
"""


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Reads the configuration with these mirrors."""
    tmp_path.chmod(0o700)

    def read_config(mirrors: str) -> Settings:
        file = tmp_path / "config.toml"
        file.write_text(CONFIG + mirrors)
        file.chmod(0o600)
        return load(file, {})

    return read_config


def mirror(**keys: object) -> str:
    known = {"layout": "token-files", "path": "tokens.json", "provider": "xero", **keys}
    lines = (f"{key} = {_toml(value)}" for key, value in known.items() if value is not None)
    return "\n[[mirrors]]\n" + "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | list) else f'"{value}"'


def test_a_mirror_of_a_file_needs_its_layout_its_path_and_its_provider(read: Any, tmp_path: Path) -> None:
    (found,) = read(mirror()).mirrors
    assert (found.name, found.path, found.providers) == ("tokens", tmp_path / "tokens.json", ("xero",))
    assert (found.show, found.keep) == (Shown.NONE, 5)


@pytest.mark.parametrize(
    ("keys", "key", "what"),
    [
        ({"layout": "token-file"}, "layout", "Did you mean token-files?"),
        ({"path": None}, "path", "is required"),
        ({"uri": "mongodb://h/d"}, "uri", "for databases only"),
        ({"key": KEY}, "key", "for layouts with a cipher only"),
        ({"provider": "zoho"}, "providers", "zoho is not configured"),
        ({"provider": None, "providers": ["xero"], "name": "a b"}, "name", "is not a valid name"),
        ({"refresh_token": "handle"}, "refresh_token", "is not supported yet"),
        ({"refresh_token": "live"}, "refresh_token", "may rotate"),
        ({"collection": "c"}, "layout", "does not read a MongoDB collection"),
        ({"layout": "encrypted-mongodb", "path": None, "provider": None}, "uri", "is required"),
        (
            {
                "layout": "encrypted-mongodb",
                "path": None,
                "provider": None,
                "uri": "postgresql://h/d",
                "key": KEY,
            },
            "uri",
            "is not a URI of mongodb",
        ),
        (
            {
                "layout": "encrypted-mongodb",
                "path": None,
                "provider": None,
                "uri": "mongodb://h/d",
                "key": "short",
            },
            "key",
            "can't be used",
        ),
    ],
    ids=str,
)
def test_every_fault_is_named(read: Any, keys: dict[str, object], key: str, what: str) -> None:
    with pytest.raises(SettingsInvalid) as invalid:
        read(mirror(**keys))
    said = [problem for problem in invalid.value.problems if problem.where.endswith(f"mirrors.0.{key}")]
    assert said, [str(problem) for problem in invalid.value.problems]
    assert what in said[0].what


def test_two_mirrors_need_two_names(read: Any) -> None:
    with pytest.raises(SettingsInvalid, match="is the name of another mirror too"):
        read(mirror() + mirror())


def test_a_mirror_of_other_hosts_is_none_of_this_one(read: Any) -> None:
    assert read(mirror(hosts=["elsewhere"])).mirrors == ()
    assert len(read(mirror(hosts=["elsewhere", socket.gethostname()])).mirrors) == 1


def test_a_refresh_token_that_stays_may_be_shown(read: Any) -> None:
    (found,) = read(mirror(provider="google", refresh_token="live")).mirrors
    assert found.show is Shown.LIVE
    assert read(mirror(refresh_token="live", i_know=True)).mirrors[0].show is Shown.LIVE
