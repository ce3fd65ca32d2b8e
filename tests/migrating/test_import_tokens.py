"""An import from a store in memory into a real MongoDB: every row ends in one count, and nothing is asked for it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.domain.foreign import BadRow
from daemon.domain.layout import Encryption, RowInvalid
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from daemon.migrating.import_tokens import BATCH, ImportStopped
from tests.migrating.moving import HOUR, LAYOUT, NOW, SOURCE, MemorySource, counts, row, whys

MINUTE = timedelta(minutes=1)


async def test_a_row_becomes_a_paused_token_with_its_origin(mover, ring, outside):
    """Sealed like any token, with nothing due, and the rest of the row for the way back."""
    report = await mover.run(MemorySource(row(user="u7", company=12)))
    assert counts(report) == (1, 0, 0, 0)
    stored = outside.tokens.find_one()
    opened = {
        field: ring.open(stored[field], token_id="xero:1", field=field)
        for field in ("access_token", "refresh_token")
    }
    assert opened == {"access_token": "access-1", "refresh_token": "refresh-1"}
    assert (stored["_id"], stored["state"], stored["due_at"], stored["revision"]) == (
        "xero:1",
        "paused",
        None,
        1,
    )
    assert (stored["subject"], stored["meta"]) == ("u7", {"company": "12"})
    assert stored["grant_fingerprint"] == ring.fingerprint("refresh-1")
    origin = stored["origin"]
    assert (origin["layout"], origin["source"], origin["key"]) == ("plain", SOURCE, "xero:1")
    assert (origin["read_at"], origin["activated"], origin["end_is_known"]) == (NOW, None, True)
    rest = ring.open(origin["rest"], token_id="xero:1", field="origin_rest")
    assert '"colour": "green"' in rest
    assert "access-1" not in rest
    assert "refresh-1" not in rest
    assert report.ignored_fields == {"colour": 1}


async def test_what_was_read_is_in_the_copy_before_it_is_stored(mover):
    """Whole rows, refused ones too."""
    await mover.run(MemorySource(row("1"), row("2", refresh=None)))
    assert [one.cells for one in mover.copy.rows] == [
        MemorySource().encode(cells) for cells in (row("1"), row("2", refresh=None))
    ]


async def test_a_second_run_finds_everything_there(mover, outside, clock):
    """Nothing is written but the time of the reading."""
    source = MemorySource(row("1"), row("2"))
    await mover.run(source)
    before = list(outside.tokens.find({}, {"origin.read_at": 0}))
    clock.passed += MINUTE
    assert counts(await mover.run(source)) == (0, 0, 2, 0)
    assert list(outside.tokens.find({}, {"origin.read_at": 0})) == before
    assert {one["origin"]["read_at"] for one in outside.tokens.find()} == {NOW + MINUTE}


async def test_newer_tokens_are_laid_over_until_the_activation(mover, ring, outside, clock):
    """The application still refreshes; afterwards the row counts no more."""
    source = MemorySource(row())
    await mover.run(source)
    clock.passed += MINUTE
    source.held[0] |= {"access": "access-b", "refresh": "refresh-b"}
    assert counts(await mover.run(source)) == (0, 1, 0, 0)
    stored = outside.tokens.find_one()
    assert ring.open(stored["refresh_token"], token_id="xero:1", field="refresh_token") == "refresh-b"
    assert (stored["revision"], stored["state"]) == (2, "paused")
    assert counts(await mover.run(source)) == (0, 0, 1, 0)
    await mover.run(source, activate=100)
    source.held[0]["refresh"] = "refresh-c"
    assert counts(await mover.run(source)) == (0, 0, 1, 0)
    stored = outside.tokens.find_one()
    assert ring.open(stored["refresh_token"], token_id="xero:1", field="refresh_token") == "refresh-b"


async def test_a_dry_run_reports_the_same_and_writes_nothing(mover, outside, admin):
    """No token, no index, no copy."""
    rows = [row(str(number)) for number in range(5)]
    rows += [row("3"), row("9", refresh="refresh-1"), row("8", refresh=None), row("7", service="gmail")]
    source = MemorySource(*rows, BadRow(label="line 10", why="it is not JSON"))
    dry = await mover.run(source, dry=True, activate=50)
    assert outside.list_collection_names() == []
    assert mover.copy.rows == []
    wet = await mover.run(source, activate=50)
    assert not wet.not_activated
    assert (counts(dry), whys(dry), dry.activated) == (counts(wet), whys(wet), wet.activated)
    assert counts(wet) == (5, 0, 0, 5)
    dry = await mover.run(source, dry=True, activate=100)
    assert (counts(dry), dry.activated) == ((0, 0, 5, 5), 3 - wet.activated)


async def test_each_refusal_names_its_row_and_no_secret(mover):
    """Two accounts, two rows of one refresh token, no refresh token, no provider, an account that can't be one."""
    report = await mover.run(
        MemorySource(
            row("1"),
            row("1", access="other", refresh="other"),
            row("2", refresh="refresh-1"),
            row("3", refresh=None),
            row("4", service="gmail"),
            row("x" * 600),
            row("6", blob="x" * 70_000),
            row("7", access="two words"),
            row(None),
            BadRow(label="line 12", why="it is not JSON"),
        )
    )
    assert counts(report) == (1, 0, 0, 9)
    said = {name[:12]: why.partition(";")[0] for name, why in whys(report).items()}
    assert said == {
        "xero:1": "xero:1 is xero:1 too, and only one row can be",
        "xero:2": "xero:1 holds the same refresh token, and two tokens would spend it",
        "xero:3": "it has no refresh token, so nothing can renew it",
        "gmail:4": "provider 'gmail' is not configured",
        "xero:" + "x" * 7: "account: 600 bytes, at most 512 are allowed",
        "xero:6": "it has more than 64 KB, too much for a row of tokens",
        "xero:7": "'access_token' contains a space, a control character or a non-ASCII character, which tokens never"
        " do: copy it again",
        "row 9": "'account' names no account",
        "line 12": "it is not JSON",
    }


async def test_a_token_that_is_stored_already_is_kept(mover, admin):
    """The same refresh token under its own id is there; another id's, or another one, is refused."""
    for account, refresh in (("1", "refresh-1"), ("2", "mine"), ("other", "refresh-3")):
        await admin.add(
            Token(
                id=f"xero:{account}",
                provider="xero",
                account=account,
                state=State.ACTIVE,
                refresh_token=Secret(refresh),
            )
        )
    report = await mover.run(MemorySource(row("1"), row("2"), row("3"), row("4")))
    assert counts(report) == (1, 0, 1, 2)
    assert "xero:2 is stored already and did not come from this row" in whys(report)["xero:2"]
    assert "xero:other already stores this refresh token" in whys(report)["xero:3"]


async def test_a_row_that_maps_to_another_id_than_before_is_refused(mover):
    """The map was changed between two runs, and the first token would remain."""
    source = MemorySource(row("1"))
    await mover.run(source, layout=replace(LAYOUT, providers={"xero": "kept"}))
    report = await mover.run(source)
    assert whys(report)["xero:1"].startswith("this row is stored as kept:1 already")


async def test_a_renewed_token_is_never_replaced_by_the_one_that_it_spent(mover, outside, ring, slices):
    """Taken back after a renewal: the application changed another field of the row, whose refresh token is spent."""
    source = MemorySource(row())
    await mover.run(source, activate=100)
    renewed = {
        "refresh_token": ring.seal("successor", token_id="xero:1", field="refresh_token"),
        "grant_fingerprint": ring.fingerprint("successor"),
        "refreshed_at": NOW + MINUTE,
    }
    outside.tokens.update_one({}, {"$set": renewed, "$inc": {"revision": 1}})
    assert await slices.take_back("xero") == 1
    source.held[0]["colour"] = "blue"
    assert counts(await mover.run(source)) == (0, 0, 1, 0)
    assert outside.tokens.find_one()["grant_fingerprint"] == ring.fingerprint("successor")
    source.held[0]["refresh"] = "consented-again"
    assert whys(await mover.run(source))["xero:1"].startswith(
        "the application and refreshd have both renewed"
    )
    source.held[0]["expires"] = int((NOW + 2 * HOUR).timestamp())
    assert counts(await mover.run(source)) == (0, 1, 0, 0)
    assert outside.tokens.find_one()["grant_fingerprint"] == ring.fingerprint("consented-again")


class Lock:
    """A cipher: only texts that begin with `key` open."""

    def __init__(self, key):
        self.key = key

    def open(self, cell):
        if not str(cell).startswith(self.key):
            raise RowInvalid("does not open")
        return str(cell).removeprefix(self.key)

    def seal(self, text, *, like):
        return self.key + text


ENCRYPTED = replace(LAYOUT, encryption=Encryption(form="A:B:C", fields=("access_token", "refresh_token")))


async def test_a_wrong_key_is_said_once_and_nothing_is_stored(mover, outside):
    """Every row fails alike. If some open, each of the others is refused for itself."""
    rows = [row(str(number), access=f"k:a{number}", refresh=f"k:r{number}") for number in range(3)]
    source = MemorySource(*rows)
    for dry in (True, False):
        with pytest.raises(ImportStopped, match="opens none of the 3 rows"):
            await mover.run(source, layout=ENCRYPTED, cipher=Lock("wrong:"), dry=dry)
    assert outside.tokens.count_documents({}) == 0
    source.held[1]["refresh"] = "damaged"
    report = await mover.run(source, layout=ENCRYPTED, cipher=Lock("k:"))
    assert (counts(report), whys(report)) == ((2, 0, 0, 1), {"xero:1": "'refresh' does not open"})


async def test_no_rows_is_a_failure(mover, outside):
    """Never "0 = 0"."""
    with pytest.raises(ImportStopped, match="there are no rows in memory://rows"):
        await mover.run(MemorySource())
    with pytest.raises(ImportStopped, match="no row of memory://rows belongs to 7"):
        await mover.run(MemorySource(row("1")), only=["7"])


async def test_only_some_accounts(mover, outside):
    """By account or by id; a name that no row has is reported."""
    report = await mover.run(
        MemorySource(row("1"), row("2"), row("3"), row("4", access="bad token")), only=["1", "xero:3", "9"]
    )
    assert (report.found, report.not_found) == (2, ["9"])
    assert {one["_id"] for one in outside.tokens.find()} == {"xero:1", "xero:3"}


@pytest.mark.parametrize(
    ("cells", "known"),
    [
        ({}, True),
        ({"expires": None}, False),
        ({"expires": "soon"}, False),
        ({"expires": None, "expires_in": 3600}, False),
        ({"expires": None, "expires_in": 3600, "issued": int(NOW.timestamp())}, True),
        ({"expires": None, "expires_in": 3600, "created_at": int(NOW.timestamp())}, True),
        ({"expires": None, "expiry_date": int((NOW + HOUR).timestamp() * 1000)}, True),
        ({"expires": 1_700_000_000}, True),
    ],
)
async def test_an_end_that_is_not_clear_makes_the_token_due_immediately(mover, outside, cells, known):
    """Once it is active. An end that lies in the past does, too."""
    report = await mover.run(MemorySource(row(**cells)), activate=100)
    stored = outside.tokens.find_one()
    assert (stored["origin"]["end_is_known"], report.due_immediately) == (known, int(not known))
    lives_on = known and stored["expires_at"] > NOW
    assert stored["due_at"] == NOW if not lives_on else NOW < stored["due_at"] < stored["expires_at"]


async def test_the_consents_clock_goes_on(mover, outside):
    """It counts from the row's date, else from the option, and the first renewal does not set it back."""
    days = timedelta(days=1)
    issued = int((NOW - 2 * days).timestamp())
    consented = int((NOW - 300 * days).timestamp())
    await mover.run(
        MemorySource(
            row("1", service="kept", issued=issued, consented=consented),
            row("2", service="kept", issued=issued),
        ),
        consented_at=NOW - 100 * days,
    )
    ends = {
        one["_id"]: (one["consent_ends_at"], one["refresh_expires_at"], one["refreshed_at"])
        for one in outside.tokens.find()
    }
    renewed = NOW - 2 * days
    assert ends == {
        "kept:1": (NOW + 65 * days, NOW + 65 * days, renewed),
        "kept:2": (NOW + 265 * days, NOW + 265 * days, renewed),
    }


async def test_many_batches_and_a_duplicate_across_them(mover, outside):
    """The later row is refused, in a dry run too."""
    rows = [row(str(number)) for number in range(2 * BATCH + 10)]
    rows.append(row("late", refresh="refresh-3"))
    source = MemorySource(*rows)
    assert counts(await mover.run(source, dry=True)) == (2 * BATCH + 10, 0, 0, 1)
    assert counts(await mover.run(source)) == (2 * BATCH + 10, 0, 0, 1)
    assert outside.tokens.count_documents({}) == 2 * BATCH + 10


async def test_the_queries_use_the_indexes(mover, outside):
    """Of the refresh tokens and of the rows: neither reads the whole collection."""
    await mover.run(MemorySource(row()))
    fingerprint = outside.tokens.find_one()["grant_fingerprint"]
    for query in (
        {"grant_fingerprint": {"$in": [fingerprint, "x"], "$type": "string"}},
        {
            "origin.layout": "plain",
            "origin.source": SOURCE,
            "origin.key": {"$in": ["xero:1"], "$type": "string"},
        },
    ):
        plan = outside.tokens.find(query).explain()["queryPlanner"]["winningPlan"]
        assert "IXSCAN" in str(plan), plan
        assert "COLLSCAN" not in str(plan)


@pytest.mark.parametrize("command", ["insert", "update"])
async def test_a_write_without_an_answer_is_settled_by_reading(mover, outside, mongod, command):
    """It was applied, and the answer is lost: the row counts as stored."""
    source = MemorySource(row("1"), row("2"))
    if command == "update":
        await mover.run(source)
        for cells in source.held:
            cells["refresh"] += "-newer"
    failing = {
        "failCommands": [command],
        "namespace": f"{outside.name}.tokens",
        "writeConcernError": {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "timed out"},
    }
    outside.client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": failing})
    report = await mover.run(source)
    assert counts(report) == ((2, 0, 0, 0) if command == "insert" else (0, 2, 0, 0))


async def test_a_token_that_changes_between_reading_and_writing_is_left_alone(mover, outside, imports):
    """Another program was faster: the row is refused, and its change stays."""
    source = MemorySource(row())
    await mover.run(source)
    source.held[0]["refresh"] = "newer"
    standing = imports.standing

    async def meddled(candidates):
        found = await standing(candidates)
        outside.tokens.update_one({}, {"$inc": {"revision": 1}})
        return found

    imports.standing = meddled
    report = await mover.run(source)
    assert "another program changed this token" in whys(report)["xero:1"]
    assert outside.tokens.find_one()["revision"] == 2


async def test_rows_that_a_mirror_has_written_are_already_there(mover, outside):
    """They hold no refresh token. One of a token that is not stored here is refused."""
    source = MemorySource(row("1"), row("2"))
    await mover.run(source)
    before = list(outside.tokens.find({}, {"origin.read_at": 0}))
    source.held = [row(one, refresh="held-by-refreshd") for one in "123"]
    report = await mover.run(source)
    assert counts(report) == (0, 0, 2, 1)
    assert whys(report)["xero:3"].startswith("a mirror has written this row")
    assert list(outside.tokens.find({}, {"origin.read_at": 0})) == before
