"""The parts of a description: types, parameters, operations and their answers."""

from collections.abc import Mapping, Sequence

Schema = Mapping[str, object]

TEXT: Schema = {"type": "string"}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
NUMBER: Schema = {"type": "integer"}
INSTANT: Schema = {"type": "string", "format": "date-time"}
INSTANT_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
SPAN: Schema = {"type": "string", "pattern": "^[0-9]{1,9}(ms|s|m|h|d)$", "examples": ["5m"]}


def object_of(
    properties: Mapping[str, Schema], *, closed: bool = True, optional: Sequence[str] = ()
) -> Schema:
    required = [name for name in properties if name not in optional]
    closing = {"additionalProperties": False} if closed else {}
    return {"type": "object", "properties": properties, "required": required, **closing}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def json_of(schema: Schema, content_type: str = "application/json") -> Mapping[str, object]:
    return {content_type: {"schema": schema}}


ACCOUNT = (
    {"name": "provider", "in": "path", "required": True, "schema": TEXT},
    {
        "name": "account",
        "in": "path",
        "required": True,
        "schema": TEXT,
        "description": "Percent-encoded; a slash in it as %2F.",
    },
)
ID = ({"name": "id", "in": "query", "required": True, "schema": TEXT, "description": "PROVIDER:ACCOUNT"},)
PREFER = {
    "name": "Prefer",
    "in": "header",
    "schema": TEXT,
    "description": "wait=SECONDS: how long to wait for a renewal (RFC 7240).",
}


def query(name: str, schema: Schema = TEXT, description: str = "") -> Mapping[str, object]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def header(name: str) -> Mapping[str, object]:
    return {"name": name, "in": "header", "schema": TEXT}


def operation(
    name: str,
    summary: str,
    answers: Mapping[str, object],
    *,
    parameters: Sequence[object] = (),
    body: Mapping[str, object] | None = None,
    guarded: bool = True,
) -> dict[str, object]:
    operation: dict[str, object] = {"operationId": name, "summary": summary, "responses": answers}
    if parameters:
        operation["parameters"] = list(parameters)
    if body is not None:
        operation["requestBody"] = {"required": True, "content": body}
    if not guarded:
        operation["security"] = []
    return operation


def answers(
    good: Mapping[str, tuple[str, Mapping[str, object] | None]], *, problems: bool = True
) -> dict[str, object]:
    found: dict[str, object] = {
        status: {"description": text, **({"content": content} if content else {})}
        for status, (text, content) in good.items()
    }
    if problems:
        problem = json_of(ref("Problem"), "application/problem+json")
        found["429"] = {
            "description": "The access key is used too often: by all its callers together, or by this one.",
            "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}},
            "content": problem,
        }
        found["default"] = {"description": "A problem document (RFC 9457).", "content": problem}
    return found
