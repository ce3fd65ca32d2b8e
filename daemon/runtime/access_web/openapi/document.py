"""The whole description. A test compares it with the table of routes.

Metrics are not in it: they are for operators, who have a token of their own.
"""

from daemon import __version__
from daemon.runtime.access_web.openapi.connect_paths import connect_paths
from daemon.runtime.access_web.openapi.oauth_paths import oauth_paths
from daemon.runtime.access_web.openapi.parts import answers, json_of, object_of, operation, ref
from daemon.runtime.access_web.openapi.schemas import SCHEMAS
from daemon.runtime.access_web.openapi.token_paths import list_paths, token_paths


def document(base: str) -> dict[str, object]:
    """Return the description of the service that is reached under `base`."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "refreshd access service",
            "version": __version__,
            "summary": "Access tokens that are always fresh.",
        },
        "servers": [{"url": base}],
        "security": [{"accessKey": []}],
        "paths": {**token_paths(), **list_paths(), **oauth_paths(), **connect_paths(), **_probe_paths()},
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"accessKey": {"type": "http", "scheme": "bearer", "bearerFormat": "rfk_…"}},
        },
    }


def _probe_paths() -> dict[str, object]:
    return {
        "/openapi.json": {
            "get": operation(
                "getDescription",
                "This document.",
                answers({"200": ("OpenAPI 3.1.", json_of({"type": "object"}))}),
                guarded=False,
            )
        },
        "/livez": {
            "get": operation(
                "getLiveness",
                "Whether the process works.",
                answers({"200": ("It does.", json_of(object_of({"live": {"type": "boolean"}})))}),
                guarded=False,
            )
        },
        "/readyz": {
            "get": operation(
                "getReadiness",
                "Whether the service can answer.",
                answers(dict.fromkeys(("200", "503"), ("The checks.", json_of(ref("Readiness"))))),
                guarded=False,
            )
        },
    }
