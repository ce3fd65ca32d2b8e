"""Issuers of JWTs for tests: their keys, their key sets, right JWTs and forged ones."""

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, Self

from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ISSUER, AUDIENCE = "https://issuer.example", "https://tokens.example"


def encoded(data: bytes | Mapping[str, object]) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def number(value: int, size: int | None = None) -> str:
    return encoded(value.to_bytes(size or (value.bit_length() + 7) // 8))


@cache
def _rsa(_name: str) -> rsa.RSAPrivateKey:
    """Make each key once: that takes long."""
    return rsa.generate_private_key(65537, 2048)


class SigningKey:
    """A key of an issuer. `kid` is also the name by which a test gets the same key again."""

    def __init__(self, kid: str, algorithm: str = "ES256") -> None:
        self.kid, self.algorithm = kid, algorithm
        self._key: Any = {"RS": lambda: _rsa(kid), "PS": lambda: _rsa(kid)}.get(
            algorithm[:2],
            lambda: (
                ed25519.Ed25519PrivateKey.generate()
                if algorithm == "EdDSA"
                else ec.generate_private_key(ec.SECP256R1())
            ),
        )()

    @property
    def jwk(self) -> dict[str, Any]:
        public = self._key.public_key()
        usual = {"kid": self.kid, "use": "sig"}
        if self.algorithm == "EdDSA":
            return {"kty": "OKP", "crv": "Ed25519", "x": encoded(public.public_bytes_raw()), **usual}
        numbers = public.public_numbers()
        if self.algorithm == "ES256":
            return {
                "kty": "EC",
                "crv": "P-256",
                "x": number(numbers.x, 32),
                "y": number(numbers.y, 32),
                **usual,
            }
        return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), **usual}

    def sign(self, data: bytes) -> bytes:
        match self.algorithm:
            case "EdDSA":
                return bytes(self._key.sign(data))
            case "ES256":
                r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(hashes.SHA256())))
                return r.to_bytes(32) + s.to_bytes(32)
            case "PS256":
                form = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
                return bytes(self._key.sign(data, form, hashes.SHA256()))
            case _:
                return bytes(self._key.sign(data, padding.PKCS1v15(), hashes.SHA256()))

    def jwt(
        self, claims: Mapping[str, object] | bytes, *, header: Mapping[str, object] | bytes | None = None
    ) -> str:
        """Return a JWT that is signed rightly, whatever stands in it. `header`: in place of the usual one, or more."""
        usual = {"alg": self.algorithm, "typ": "JWT", "kid": self.kid}
        head = header if isinstance(header, bytes) else {**usual, **(header or {})}
        signed = f"{encoded(head)}.{encoded(claims)}"
        return f"{signed}.{encoded(self.sign(signed.encode()))}"


def key_set(*keys: SigningKey) -> dict[str, object]:
    return {"keys": [one.jwk for one in keys]}


def claims(now: datetime, **others: object) -> dict[str, object]:
    """Return the usual claims, valid for five minutes; None leaves one out."""
    at = int(now.timestamp())
    usual: dict[str, object] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "repo:acme/app:ref:refs/heads/main",
        "iat": at,
        "nbf": at,
        "exp": at + 300,
        "jti": "1",
    }
    return {name: value for name, value in {**usual, **others}.items() if value is not None}


class KeyServer:
    """A server of key sets, which counts requests. A test sets `answer`; one that hangs waits for `over`."""

    def __init__(self) -> None:
        self.asked = 0
        self.body: object = {"keys": []}
        self.answer: Any = None
        self.over = asyncio.Event()
        self._runner: web.ServerRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._answered), shutdown_timeout=0.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/jwks"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        self.over.set()
        await self._runner.cleanup()

    async def _answered(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked += 1
        if self.answer is not None:
            return await self.answer(request)
        return web.Response(text=json.dumps(self.body), content_type="application/json")
