"""A locked package with a known hole fails the build; what is known comes from a file, and is renewed from OSV's format."""

import json
import zipfile
from pathlib import Path

import pytest
from packaging.version import Version

from supply.advisories import Advisories, Advisory, NotReadable, hits, main, read, updated, write
from supply.lock import NotLocked, Pin, locked

HOLES = [
    *(("aiohttp", f"3.14.{n}", cve) for n in range(3) for cve in ("CVE-2026-59881", "CVE-2026-69243", "CVE-2026-69244")),
    ("pymongo", "4.18.0", "CVE-2026-88029"),
    ("pymongo", "4.16.0", "CVE-2026-88029"),
    ("cryptography", "46.0.6", "CVE-2026-39892"),
    ("cryptography", "46.0.0", "CVE-2026-39892"),
    ("cryptography", "46.0.7", "CVE-2026-69247"),
    ("python-dotenv", "1.2.1", "CVE-2026-28684"),
]  # fmt: skip
HASH = "--hash=sha256:" + "0" * 64
RECORD = {
    "id": "GHSA-aaaa-bbbb-cccc",
    "aliases": ["PYSEC-2026-7", "CVE-2026-7"],
    "modified": "2026-12-01T10:00:00Z",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "Some.Thing"},
            "ranges": [
                {"type": "GIT", "repo": "x", "events": [{"introduced": "0"}]},
                {
                    "type": "ECOSYSTEM",
                    "events": [
                        {"introduced": "0"},
                        {"fixed": "1.2"},
                        {"introduced": "2.0"},
                        {"last_affected": "2.3"},
                    ],
                },
            ],
            "versions": ["1.0", "1.1", "2.1", "3.0rc1", "not-a-version"],
        },
        {"package": {"ecosystem": "npm", "name": "some-thing"}, "ranges": []},
        {"package": {"ecosystem": "PyPI", "name": "other"}, "versions": ["1.0"]},
    ],
}


def pin(name, version):
    return Pin(name=name, version=Version(version), hashes=("0" * 64,), file="run")


def affected(known, name, version):
    return {one.id for _, one in hits([pin(name, version)], known)}


@pytest.fixture
def place(tmp_path):
    """A folder of lock files with one package, `some-thing`, and a file of advisories that holds none."""
    (tmp_path / "run.txt").write_text(f"some_thing==1.1 ; python_version < '4' \\\n    {HASH}\n")
    write(Advisories(as_of="2026-01-01"), tmp_path / "data.json")
    return tmp_path


def command(place, *arguments):
    options = ["--data", str(place / "data.json"), "--requirements", str(place)]
    return main([arguments[0], *options, *map(str, arguments[1:])])


def test_what_is_locked_has_no_known_hole():
    """The same that CI runs."""
    assert main(["check"]) == 0


@pytest.mark.parametrize(("name", "version", "cve"), HOLES)
def test_a_known_hole_would_be_found(name, version, cve):
    """Each that was found in the versions before."""
    assert cve in affected(read(), name, version)


def test_every_locked_package_is_read():
    """Every line with an exact version, in every file, with its hashes."""
    pins = locked()
    lines = [
        line
        for path in (Path(__file__).parents[2] / "requirements").glob("*.txt")
        for line in path.read_text().splitlines()
    ]
    assert len(pins) == sum("==" in line and not line.startswith((" ", "#")) for line in lines)
    assert sum(len(pin.hashes) for pin in pins) == sum("--hash=sha256:" in line for line in lines)


@pytest.mark.parametrize("line", [f"thing>=1 {HASH}", f"thing @ file:///x {HASH}", "thing==1", "-e ."])
def test_a_line_that_locks_nothing_is_an_error(place, line, capsys):
    """It would not be compared with anything."""
    (place / "dev.txt").write_text(line + "\n")
    with pytest.raises(NotLocked, match=r"dev\.txt"):
        locked(place)
    assert command(place, "check") == 2
    assert "dev.txt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("version", "is_hit"),
    [("1.0", False), ("1.1rc1", True), ("1.1", True), ("1.1.post1", True), ("1.2.dev0", True), ("1.2rc1", True), ("1.2", False)],
)  # fmt: skip
def test_a_range_ends_at_the_fix_and_not_at_its_pre_releases(version, is_hit):
    """PEP 440's order, without the exceptions that its specifiers make."""
    one = Advisory(package="thing", id="X", introduced="1.1rc1", fixed="1.2")
    assert one.affects(Version(version)) is is_hit


def test_an_advisory_without_a_fix_affects_every_later_version():
    """Until a fix is known."""
    assert Advisory(package="thing", id="X", introduced="1").affects(Version("99"))


def test_a_hit_fails_and_names_package_version_advisory_and_fix(place, capsys):
    """All that is needed to act."""
    write(Advisories(as_of="2026-01-01", advisories=(Advisory(package="some-thing", id="CVE-1", fixed="1.2"),)), place / "data.json")  # fmt: skip
    assert command(place, "check") == 1
    said = capsys.readouterr().out
    assert "requirements/run.txt: some-thing 1.1 is affected by CVE-1; fixed in 1.2" in said
    assert "1 hits" in said


def test_an_accepted_advisory_is_named_and_does_not_fail(place, capsys):
    """With the reason."""
    known = Advisories(
        as_of="2026-01-01",
        accepted={"CVE-1": "we call nothing of it"},
        advisories=(Advisory(package="some-thing", id="CVE-1"),),
    )
    write(known, place / "data.json")
    assert command(place, "check") == 0
    assert "Accepted: we call nothing of it" in capsys.readouterr().out


def test_an_update_takes_ranges_and_versions_of_locked_packages_from_a_record(place):
    """By the CVE's name, and by the package's normal name."""
    (place / "GHSA.json").write_text(json.dumps(RECORD))
    assert command(place, "update", place / "GHSA.json") == 1
    known = read(place / "data.json")
    assert known.as_of == "2026-12-01"
    assert {one.package for one in known.advisories} == {"some-thing"}
    hit = {v for v in ("1.0", "1.1", "1.2", "1.9", "2.0", "2.3", "2.4", "3.0rc1", "3.0") if affected(known, "some-thing", v)}  # fmt: skip
    assert hit == {"1.0", "1.1", "2.0", "2.3", "3.0rc1"}
    assert affected(known, "some-thing", "1.0") == {"CVE-2026-7"}


def test_an_update_reads_archives_and_replaces_what_it_knows_better(place):
    """The rest stays; what is withdrawn, or not locked any more, goes."""
    write(
        Advisories(
            as_of="2027-01-01",
            accepted={"CVE-9": "why"},
            advisories=(
                Advisory(package="some-thing", id="CVE-2026-7", fixed="1.0.1"),
                Advisory(package="some-thing", id="CVE-8", fixed="0.5"),
                Advisory(package="some-thing", id="CVE-6", fixed="0.6"),
                Advisory(package="gone", id="CVE-5"),
            ),
        ),
        place / "data.json",
    )
    with zipfile.ZipFile(place / "all.zip", "w") as archive:
        archive.writestr("GHSA-1.json", json.dumps(RECORD))
        archive.writestr("CVE-6.json", json.dumps({**RECORD, "id": "CVE-6", "aliases": [], "withdrawn": "2026-02-02T00:00:00Z"}))  # fmt: skip
        archive.writestr("README", "not a record")
    assert command(place, "update", place / "all.zip") == 1
    known = read(place / "data.json")
    assert (known.as_of, known.accepted) == ("2027-01-01", {"CVE-9": "why"})
    assert {one.id for one in known.advisories} == {"CVE-2026-7", "CVE-8"}
    assert affected(known, "some-thing", "1.1") == {"CVE-2026-7"}


def test_an_update_is_the_same_the_second_time(place):
    """So that a difference is news."""
    (place / "GHSA.json").write_text(json.dumps(RECORD))
    command(place, "update", place / "GHSA.json")
    before = (place / "data.json").read_bytes()
    command(place, "update", place / "GHSA.json")
    assert (place / "data.json").read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"id": "X", "modified": 7}'])
def test_a_file_that_holds_no_record_changes_nothing(place, text, capsys):
    """It is named."""
    before = (place / "data.json").read_bytes()
    (place / "bad.json").write_text(text)
    assert command(place, "update", place / "bad.json") == 2
    assert "bad.json" in capsys.readouterr().err
    assert (place / "data.json").read_bytes() == before


def test_a_bound_that_is_no_version_is_an_error(place):
    """In a record, and in what is stored: a range that can't be compared would never be hit."""
    broken = json.loads(json.dumps(RECORD).replace('"1.2"', '"next week"'))
    (place / "bad.json").write_text(json.dumps(broken))
    assert command(place, "update", place / "bad.json") == 2
    (place / "data.json").write_text(
        '{"as_of": "x", "advisories": [{"package": "p", "id": "i", "fixed": "next week"}]}'
    )
    with pytest.raises(NotReadable, match="next week"):
        read(place / "data.json")
    assert command(place, "check") == 2


def test_what_is_stored_is_in_order_and_about_locked_packages():
    """As an update would write it."""
    known, packages = read(), frozenset(pin.name for pin in locked())
    assert updated(known, [], packages) == known
