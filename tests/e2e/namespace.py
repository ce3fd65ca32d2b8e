"""A program for a network namespace without a way out: goes through every route of the access service, and ends with 0."""

import asyncio
import fcntl
import socket
import struct
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from daemon.domain.handle import handle_of
from tests.e2e.service import Place, Service, placed
from tests.support.replica_set import replica_set

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1  # netdevice(7)
_ME = "/v1/tokens/acme/me"
_RETURN = "https://app.example.com/connected"


def loopback_up() -> None:
    """Switch the loopback interface on: in a new namespace, nothing is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack("16xh14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, asked))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


async def every_route(place: Place) -> None:
    key = await place.key()
    (response,) = place.sandbox.consent()
    provider = {"authorize_url": place.sandbox.authorize_url}
    access = {"return_urls": [_RETURN]}
    async with place.serving(key, access=access, **{"providers.acme": provider}) as service:
        await place.sandbox.stop()  # not even on this machine is there a provider
        steps: list[tuple[str, str, dict[str, Any], int]] = [
            ("PUT", _ME, {"json": response}, 201),
            ("GET", _ME, {}, 200),
            ("GET", "/v1/token?id=acme%3Ame", {}, 200),
            ("PATCH", _ME, {"json": {"subject": "u1", "meta": {"a": "b"}}}, 200),
            ("GET", "/v1/tokens", {}, 200),
            ("GET", "/v1/subjects/u1/tokens", {}, 200),
            ("GET", "/v1/statistics", {}, 200),
            ("GET", "/v1/audit", {}, 200),
            ("POST", f"{_ME}/refused", {"json": {"version": "an older one"}}, 200),
            ("GET", "/.well-known/oauth-authorization-server/v1/oauth/acme", {}, 200),
            ("GET", "/openapi.json", {}, 200),
            ("GET", f"/connect/{'x' * 43}", {"key": ""}, 404),
            ("DELETE", f"{_ME}?revoke=false", {}, 204),
            ("GET", _ME, {}, 404),
        ]
        for method, path, options, status in steps:
            answer = await service.ask(method, path, **options)
            assert answer.status == status, (method, path, answer)
            if path == _ME and method == "GET" and status == 200:
                exchanged = await service.exchange(refresh_token=handle_of("acme:me"))
                assert exchanged.json["access_token"] == answer.json["access_token"]
        await connect(service)


async def connect(service: Service) -> None:
    """Go through the routes of a consent. Its owner refuses, so that no daemon is needed."""
    wish = {"provider": "acme", "account": "new", "return_url": _RETURN, "code_challenge": "c" * 43}
    begun = (await service.ask("POST", "/v1/connect", json=wish)).json
    link = urlsplit(begun["connect_url"]).path
    assert (await service.get(link, key="")).status == 200
    pressed = await service.ask("POST", link, key="", headers={"Origin": service.url}, allow_redirects=False)
    assert pressed.status == 303, pressed
    asked = dict(parse_qsl(urlsplit(pressed.headers["Location"]).query))
    back = await service.get(
        f"{urlsplit(asked['redirect_uri']).path}?state={asked['state']}&error=access_denied",
        key="",
        headers={"Cookie": pressed.headers["Set-Cookie"].partition(";")[0]},
        allow_redirects=False,
    )
    assert back.headers["Location"] == f"{_RETURN}?connect={begun['id']}&error=access_denied", back
    assert (await service.get(f"/v1/connect/{begun['id']}")).json["state"] == "failed"
    proof = {"connect_code": "x" * 43, "code_verifier": "v" * 43}
    assert (await service.ask("POST", f"/v1/connect/{begun['id']}/complete", json=proof)).status == 409


async def main() -> None:
    home = Path(sys.argv[1])
    loopback_up()
    assert len(Path("/proc/net/route").read_text().splitlines()) == 1, "there is a route"
    (home / "mongod").mkdir()
    with replica_set(home / "mongod") as uri:
        async with placed(uri, home / "place") as place:
            await every_route(place)


if __name__ == "__main__":
    asyncio.run(main())
