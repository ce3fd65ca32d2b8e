"""The providers at which a client signs: the facts a second time, written down apart from the fixtures."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

import aiohttp
import pytest

from daemon.sandbox import Sandbox, SandboxOptions
from tests.sandbox.test_assertions import signed

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class Fact(NamedTuple):
    """Where it is asked, what is claimed, and how it says that the user is unknown and that the key is."""

    path: str
    audience: str
    reply: tuple[int, set[str]]
    claims: dict[str, str]
    user: tuple[int, str] | None
    key: tuple[int, str]
    longest: int  # seconds
    secret: bool = False


BEARER = (200, {"access_token", "expires_in", "token_type"})
TOKEN = "https://oauth2.googleapis.com/token"
SIGNATURE = (400, "Invalid JWT Signature.")
SIGNED = {
    "box-jwt": Fact(
        "/oauth2/token", "https://api.box.com/oauth2/token", (200, BEARER[1] | {"restricted_to"}),
        {"sub": "1", "box_sub_type": "user"},
        (400, "Please check the 'sub' claim. The 'sub' specified is invalid."),
        (400, "OAuth JWT signature verification failed"), 60, secret=True,
    ),
    "docusign-jwt": Fact(
        "/oauth/token", "account.docusign.com", BEARER, {"sub": "1", "scope": "signature impersonation"},
        (400, "user_not_found"), (400, "no_valid_keys_or_signatures"), 3600,
    ),
    "github-app": Fact(
        "/app/installations/1/access_tokens", "", (201, {"token", "expires_at", "permissions", "repository_selection"}),
        {}, (404, "Not Found"), (401, "A JSON web token could not be decoded"), 600,
    ),
    "google-delegation": Fact(
        "/token", TOKEN, BEARER, {"sub": "1", "scope": "a"}, (400, "Invalid email or User ID"), SIGNATURE, 3600
    ),
    "google-service-account": Fact("/token", TOKEN, BEARER, {"scope": "a"}, None, SIGNATURE, 3600),
    "salesforce-jwt": Fact(
        "/services/oauth2/token", "https://login.salesforce.com",
        (200, {"access_token", "scope", "instance_url", "id", "token_type"}), {"sub": "1"},
        (400, "user hasn't approved this consumer"), (400, "invalid assertion"), 300,
    ),
}  # fmt: skip


async def ask(at: Sandbox, key: dict[str, str], *, lifetime: int = 30, **changed: Any) -> tuple[int, Any]:
    """A request as the provider's page has it, with claims as `changed` says."""
    fact, now = SIGNED[at.options.name], int(datetime.now(UTC).timestamp())  # noqa: TID251  the sandbox goes by it
    claims = {
        "iss": at.client_id,
        "aud": fact.audience,
        "iat": now,
        "exp": now + lifetime,
        "jti": f"{now}-{id(changed)}",
    }
    text = signed(key, {**claims, **fact.claims, **changed})
    form = {"grant_type": JWT_BEARER, "assertion": text}
    if fact.secret:
        form |= {"client_id": at.client_id, "client_secret": at.client_secret}
    bearer = {"Authorization": f"Bearer {text}", "X-GitHub-Api-Version": "2022-11-28"}
    more: dict[str, Any] = {"headers": bearer} if at.options.name == "github-app" else {"data": form}
    async with aiohttp.ClientSession() as session, session.post(at.token_url, **more) as answer:
        return answer.status, await answer.json()


def words(body: Any) -> str:
    return str(body.get("error_description", body.get("message")))


@pytest.mark.parametrize("name", SIGNED)
async def test_each_asks_and_answers_as_its_page_says(name: str) -> None:
    """Granted; then another's key, a user that it doesn't know, and a second too much of lifetime."""
    fact = SIGNED[name]
    async with Sandbox(SandboxOptions(name=name)) as sandbox, Sandbox(SandboxOptions(name=name)) as other:
        assert sandbox.token_url == sandbox.url + fact.path
        assert sandbox.desk is not None
        assert other.desk is not None
        key = sandbox.desk.draw_key()
        status, body = await ask(sandbox, key)
        assert (status, set(body)) == fact.reply
        status, body = await ask(sandbox, other.desk.draw_key())
        assert (status, words(body)) == fact.key
        status, body = await ask(sandbox, key, lifetime=fact.longest + 30)
        assert status in (400, 401)
        assert sandbox.desk.presented[-1].outcome == "too_long"
    if fact.user is not None:
        async with Sandbox(SandboxOptions(name=name, users=("nobody",))) as strict:
            assert strict.desk is not None
            status, body = await ask(strict, strict.desk.draw_key())
            assert (status, words(body)) == fact.user


@pytest.mark.parametrize("name", SIGNED)
async def test_what_it_prints_is_what_a_client_needs(name: str) -> None:
    """The key, and the secret only where it is sent. Keys are taken back and drawn over HTTP."""
    async with Sandbox(SandboxOptions(name=name)) as sandbox, aiohttp.ClientSession() as session:
        line = sandbox.describe()
        assert (line["client_secret"] is not None) is SIGNED[name].secret
        first = {key: str(line[key]) for key in ("client_key", "client_key_id")}
        assert (await ask(sandbox, first))[0] == SIGNED[name].reply[0]
        async with session.delete(f"{sandbox.url}/keys") as answer:
            assert await answer.json() == {"deleted": 1}
        assert (await ask(sandbox, first))[0] == SIGNED[name].key[0]
        async with session.post(f"{sandbox.url}/keys") as answer:
            second = await answer.json()
        assert (await ask(sandbox, second))[0] == SIGNED[name].reply[0]
        async with session.get(f"{sandbox.url}/assertions") as answer:
            outcomes = [one["outcome"] for one in await answer.json()]
        assert outcomes == ["accepted", "signature", "accepted"]
