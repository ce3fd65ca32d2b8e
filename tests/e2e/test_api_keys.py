"""API keys: nothing renews them, so the daemon warns of their end and of their age."""

from datetime import timedelta

from pymongo import AsyncMongoClient

from tests.e2e.daemon_process import Install
from tests.support import wall_clock

KEY = "canary-key-9f21/+="
DAY = timedelta(days=1)


async def test_a_key_is_sealed_never_sent_and_its_end_and_age_are_warned_of(
    install: Install, mongod: str, database_name: str
) -> None:
    """The nearest of the two, a week ahead; a young key without an end is not mentioned."""
    place = install({"api-key": {}, "mailer": {"like": "api-key", "max_age": "5d"}})
    soon = wall_clock.now() + 3 * DAY
    for provider, name, more in (
        ("api-key", "young", ()),
        ("api-key", "ends", (f"--expires={soon:%Y-%m-%dT%H:%M:%SZ}",)),
        ("mailer", "old", ()),
    ):
        done = await place.refreshd("add", provider, name, *more, stdin=f"{KEY}\n")
        assert done.code == 0, done
        assert "only watched" in done.stderr
    async with AsyncMongoClient(mongod, tz_aware=True) as client, place.running() as daemon:
        ending = {
            (await daemon.event("token.ending", token=token))["token"]
            for token in ("api-key:ends", "mailer:old")
        }
        assert {line["token"] for line in daemon.seen("token.ending")} == ending
        assert await daemon.stop() == 0
        documents = {one["_id"]: one async for one in client[database_name]["tokens"].find()}
    assert KEY not in daemon.logs
    assert KEY not in str(documents)
    for name, document in documents.items():
        assert (document["state"], document["due_at"], document["revision"]) == ("active", None, 1)
        assert place.keyring.open(document["access_token"], token_id=name, field="access_token") == KEY
    ages = {name: one["consent_ends_at"] - one["issued_at"] for name, one in documents.items()}
    assert ages == {"api-key:young": 90 * DAY, "api-key:ends": 90 * DAY, "mailer:old": 5 * DAY}
    assert abs(documents["api-key:ends"]["expires_at"] - soon) < timedelta(seconds=2)
    assert documents["mailer:old"]["expires_at"] is None


async def test_an_end_is_for_keys_only(install: Install) -> None:
    """A token that is renewed has the end that its provider states."""
    place = install(
        {
            "sandbox": {
                "token_url": "http://127.0.0.1:9/token", "client_id": "me", "client_secret": "s3cret",
            }
        }
    )  # fmt: skip
    done = await place.refreshd(
        "add", "sandbox", "one", "--expires=2027-01-01", stdin='{"refresh_token": "r"}'
    )
    assert done.code == 2
    assert "--expires" in done.stderr
    done = await place.refreshd("add", "sandbox", "one", stdin=KEY)
    assert done.code == 1
    assert "not JSON" in done.stderr
