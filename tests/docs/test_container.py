"""deploy/container: the Containerfile and the manifest fit the program, and the manifest's variables start it."""

import hashlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemon.runtime.config.sections import RefreshSettings, ServerSettings
from daemon.runtime.config.settings import SHORTEST_BEARER, load
from daemon.runtime.web.server import PROBES
from tests.support.environment import ROOT

CONTAINERFILE = ROOT / "deploy" / "container" / "Containerfile"
IGNORED = CONTAINERFILE.with_name("Containerfile.dockerignore")
MANIFEST = CONTAINERFILE.with_name("statefulset.yaml")
INSTALL = (ROOT / "docs" / "install.md").read_text()
SECRETS, VOLUME = "/run/secrets/refreshd", "/var/lib/refreshd"
USER = 10001
ON_PROBES = re.compile(r"http://127\.0\.0\.1:(\d+)(/\w+)")


def instructions() -> list[tuple[str, str]]:
    """Each instruction and its arguments, on one line."""
    lines = [line for line in CONTAINERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in joined.splitlines() if line]


def last_stage() -> dict[str, str]:
    """What the image is made of; of several of a kind the last counts, as in an engine."""
    found = instructions()
    start = max(number for number, (name, _) in enumerate(found) if name == "FROM")
    return dict(found[start:])


def environment() -> dict[str, str]:
    """What the image sets."""
    return dict(word.split("=", 1) for word in shlex.split(last_stage()["ENV"]))


def manifest(kind: str) -> Any:
    (found,) = (part for part in yaml.safe_load_all(MANIFEST.read_text()) if part["kind"] == kind)
    return found


@pytest.fixture
def pod() -> Any:
    return manifest("StatefulSet")["spec"]["template"]["spec"]


@pytest.fixture
def container(pod: Any) -> Any:
    (found,) = pod["containers"]
    return found


def variables(container: Any) -> dict[str, str]:
    found = {each["name"]: each["value"] for each in container["env"]}
    assert all(isinstance(value, str) for value in found.values()), "Kubernetes takes texts only"
    return found


def mapped(container: Any, directory: Path) -> dict[str, str]:
    """The image's variables and the manifest's, with the mounted directories in `directory`; secrets lie there as a
    kubelet lays them.
    """
    content = {
        "mongodb-uri": "mongodb://db.example.com/?replicaSet=rs0",
        "key-2026-11": hashlib.sha256(b"for these tests").hexdigest(),
        "bearer-token": "tR5vX8zB1nM4kJ7hG0fD3sA6",
        "xero-secret": "s3cret",
    }
    version = directory / "secrets" / "..2026_11_28"
    version.mkdir(parents=True)
    version.with_name("..data").symlink_to(version.name)
    for name, text in content.items():
        (version / name).write_text(text)
        (version / name).chmod(0o440)
        version.with_name(name).symlink_to(Path("..data", name))
    return {
        name: value.replace(SECRETS, str(directory / "secrets")).replace(VOLUME, str(directory / "volume"))
        for name, value in {**environment(), **variables(container)}.items()
    }


# ---------------------------------------------------------------- the Containerfile


def test_the_base_is_the_officials_by_version_and_the_same_in_both_stages():
    """A short name with a full version of the Python that we test with; no registry is named."""
    first, last = (argument for name, argument in instructions() if name == "FROM")
    assert first == f"{last} AS build"
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", last)


def test_what_is_installed_is_locked_and_nothing_else_is_looked_for():
    """Hashes for each package, and no index for our own."""
    runs = [argument for name, argument in instructions() if name == "RUN"]
    locked, own = (run for run in runs if "pip install" in run)
    assert {"--no-deps", "--require-hashes", "requirements/build.txt", "requirements/run.txt"} <= set(
        locked.split()
    )
    assert {"--no-deps", "--no-index", "--no-build-isolation"} <= set(own.split())


def test_each_file_that_is_copied_exists_and_reaches_the_build():
    """And nothing but these does: no key, no state."""
    copied = [
        source.rstrip("/")
        for name, argument in instructions()
        if name == "COPY" and "--from" not in argument
        for source in argument.split()[:-1]
    ]
    assert [source for source in copied if not (ROOT / source).exists()] == []
    lines = [line for line in IGNORED.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == set(copied)


def test_it_runs_as_a_user_of_its_own_who_owns_nothing_but_the_state():
    """A number, since Kubernetes can't judge a name."""
    last = last_stage()
    assert last["USER"] == f"{USER}:{USER}"
    assert f"install -d -m 0700 -o {USER} -g {USER} {VOLUME}" in last["RUN"]
    assert last["WORKDIR"] == VOLUME
    assert Path(environment()["REFRESHD_STATE__DIR"]).parent == Path(VOLUME)
    assert (json.loads(last["ENTRYPOINT"]), json.loads(last["CMD"])) == (["refreshd"], ["run"])
    assert last["STOPSIGNAL"] == "SIGTERM"


def test_its_health_check_asks_a_probe_at_the_port_that_is_the_default():
    """One that does not depend on MongoDB."""
    last = last_stage()
    port, path = ON_PROBES.search(last["HEALTHCHECK"]).groups()
    assert int(port) == int(last["EXPOSE"]) == ServerSettings().port
    assert path == "/livez"


# ---------------------------------------------------------------- the manifest


def test_the_pod_is_given_more_time_than_the_drain_takes(pod: Any):
    """And so is a container that is stopped by hand."""
    drain = RefreshSettings().drain.total_seconds()
    assert pod["terminationGracePeriodSeconds"] > drain
    assert [int(seconds) > drain for seconds in re.findall(r"--stop-timeout (\d+)", INSTALL)] == [True]


def test_the_probes_exist_and_liveness_does_not_depend_on_mongodb(container: Any):
    """By the name of the port that refreshd listens on."""
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: probe["path"] for name, probe in asked.items()} == {
        "startup": "/livez",
        "liveness": "/livez",
        "readiness": "/readyz",
    }
    assert {probe["path"] for probe in asked.values()} <= PROBES
    (port,) = container["ports"]
    assert {probe["port"] for probe in asked.values()} == {port["name"]}
    assert port["containerPort"] == ServerSettings().port
    (service,) = manifest("Service")["spec"]["ports"]
    assert (service["port"], service["targetPort"]) == (ServerSettings().port, port["name"])


def test_user_and_group_are_the_images(pod: Any, container: Any):
    """Without any privilege, on a root file system that can't be written to."""
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert {context[key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {USER}
    assert context["fsGroupChangePolicy"] == "OnRootMismatch"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_secrets_are_files_for_the_group_alone_and_the_state_is_a_claim(pod: Any, container: Any):
    """Each secret that a variable names is made by the page's command."""
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"state": VOLUME, "secrets": SECRETS}
    (volume,) = pod["volumes"]
    assert volume["secret"]["defaultMode"] == 0o440
    (claim,) = manifest("StatefulSet")["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "state"
    named = {
        value.removeprefix(f"{SECRETS}/")
        for name, value in variables(container).items()
        if name.endswith("__FILE")
    }
    (command,) = re.findall(r"^\$ kubectl create secret generic refreshd (.+)$", INSTALL, re.MULTILINE)
    assert {word.removeprefix("--from-file=") for word in command.split()} == named


def test_its_variables_are_a_whole_configuration(
    container: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With the image's own, and secrets laid out as a kubelet does: links to files of mode 0440."""
    monkeypatch.chdir(tmp_path)  # where there is no config.toml
    settings = load(None, mapped(container, tmp_path))
    assert set(settings.providers) == {"xero"}
    assert settings.keys.active in settings.keys.ring
    assert settings.state_dir == tmp_path / "volume" / "state"
    assert settings.server.host == "0.0.0.0"
    assert len(settings.server.bearer_token.reveal()) >= SHORTEST_BEARER
