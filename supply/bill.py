"""The bill of materials of a release: CycloneDX 1.6 as JSON (https://cyclonedx.org/docs/1.6/json/), from the lock files.

What the daemon needs is `required`, the extras that it runs without are `optional`, and what only builds and tests it is
`excluded`, like the packages for applications that a release has beside it. Nothing in it depends on the machine or the hour: the same lock files give the same bytes.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from supply.clients import Package
from supply.lock import Pin

_FILES = (
    "run",
    "postgresql",
    "aws",
    "build",
    "dev",
    "doors",
    "clouds",
)  # the first that locks a package says what it is for
_SCOPES = {
    "run": "required",
    "postgresql": "optional",
    "aws": "optional",
    "build": "excluded",
    "dev": "excluded",
    "doors": "excluded",
    "clouds": "excluded",
}


def bill_of_materials(
    project: Mapping[str, Any], pins: Iterable[Pin], clients: Iterable[Package], *, at: datetime
) -> dict[str, Any]:
    """The document. `project`: that table of pyproject.toml; `at`: when the release was made."""
    components = [*_components(project, pins), *map(_client, clients)]
    subject = _component("application", project["name"], project["version"])
    contents = json.dumps([subject, components], sort_keys=True)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, contents)}",
        "version": 1,
        "metadata": {"timestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": subject},
        "components": components,
    }


def _components(project: Mapping[str, Any], pins: Iterable[Pin]) -> list[dict[str, Any]]:
    """One for each name and version, since two files may lock the same, and one file two versions of the same."""
    optional = {
        canonicalize_name(Requirement(text).name) for text in project["optional-dependencies"]["embedded"]
    }
    ranked = sorted(pins, key=lambda pin: (pin.name, pin.version, _FILES.index(pin.file)))
    found = []
    for (name, version), same in groupby(ranked, key=lambda pin: (pin.name, pin.version)):
        group = list(same)
        scope = _SCOPES[group[0].file]
        if name in optional and scope == "required":
            scope = "optional"
        hashes = sorted({digest for pin in group for digest in pin.hashes})
        found.append(_component("library", name, str(version)) | {"scope": scope, "hashes": _listed(hashes)})
    return found


def _client(package: Package) -> dict[str, Any]:
    named = _component("library", package.name, package.version, ecosystem=package.ecosystem)
    return named | {"scope": "excluded", "hashes": _listed(package.hashes)}


def _listed(hashes: Iterable[str]) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest} for digest in hashes]


def _component(kind: str, name: str, version: str, *, ecosystem: str = "pypi") -> dict[str, Any]:
    purl = f"pkg:{ecosystem}/{canonicalize_name(name)}@{version}"
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}
