"""A stored token for people and for programs."""

from collections.abc import Mapping


def record(document: Mapping[str, object], fields: tuple[str, ...]) -> dict[str, object]:
    return {"id": document["_id"], **{field: document.get(field) for field in fields}}


def failure_text(stored: object) -> str:
    if not isinstance(stored, Mapping):
        return ""
    return f"{stored.get('kind')}: {stored.get('message') or stored.get('code')}"
