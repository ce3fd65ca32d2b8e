"""The paths of tokens: each of its own, and lists."""

from collections.abc import Sequence

from daemon.domain.token import State
from daemon.runtime.access_web.openapi.parts import (
    ACCOUNT,
    ID,
    PREFER,
    SPAN,
    TEXT,
    answers,
    header,
    json_of,
    object_of,
    operation,
    query,
    ref,
)


def token_paths() -> dict[str, object]:
    """Return the paths of single tokens."""
    return {
        "/v1/tokens/{provider}/{account}": _of_one(ACCOUNT, ""),
        "/v1/token": _of_one(ID, "ById"),
        "/v1/tokens/{provider}/{account}/refused": {
            "post": operation(
                "refuseToken",
                "Report that the provider refuses the access token of this version. It is renewed early.",
                answers(
                    {
                        "200": ("The successor.", json_of(ref("Token"))),
                        "202": ("The renewal is under way.", json_of({"type": "object"})),
                    }
                ),
                parameters=(*ACCOUNT, PREFER),
                body=json_of(object_of({"version": {"type": "string", "minLength": 1, "maxLength": 64}})),
            )
        },
    }


def list_paths() -> dict[str, object]:
    """Return the paths of many tokens, and of what was done with them."""
    page = answers({"200": ("A page of tokens, by id.", json_of(ref("Page")))})
    paging = (
        query("after", TEXT, "`next` of the page before."),
        query("limit", {"type": "integer", "minimum": 1, "maximum": 500, "default": 100}),
    )
    subject = {"name": "subject", "in": "path", "required": True, "schema": TEXT}
    return {
        "/v1/tokens": {
            "get": operation(
                "listTokens",
                "List the tokens that the key may see, without their secrets.",
                page,
                parameters=(
                    query("provider"),
                    query("state", {"type": "string", "enum": [state.value for state in State]}),
                    query("subject"),
                    query("where", TEXT, "meta.NAME=TEXT or subject=TEXT; may be given several times."),
                    *paging,
                ),
            )
        },
        "/v1/subjects/{subject}/tokens": {
            "get": operation(
                "listSubject", "List one subject's tokens.", page, parameters=(subject, *paging)
            ),
            "delete": operation(
                "deleteSubject",
                "Revoke or remove one subject's tokens, by id, at most 100 of them. `next` says that more are left.",
                answers({"200": ("What became of each.", json_of(ref("Removed")))}),
                parameters=(subject, query("revoke", {"type": "boolean", "default": True}), paging[0]),
            ),
        },
        "/v1/statistics": {
            "get": operation(
                "getStatistics",
                "Count the tokens that the key may see.",
                answers({"200": ("The counts.", json_of(ref("Statistics")))}),
            )
        },
        "/v1/audit": {
            "get": operation(
                "getAudit",
                "Return the records that the key may see, newest first. A short page may have a `next`.",
                answers(
                    {
                        "200": (
                            "The records. As CSV, the header Link leads to the next page.",
                            {**json_of(ref("Audit")), "text/csv": {"schema": TEXT}},
                        )
                    }
                ),
                parameters=(
                    query("token"),
                    query("actor"),
                    query("since", TEXT, "An instant, or seconds since 1970."),
                    *paging,
                ),
            )
        },
    }


def _of_one(place: Sequence[object], suffix: str) -> dict[str, object]:
    token = json_of(ref("Token"))
    item = json_of(ref("Item"))
    return {
        "get": operation(
            f"getToken{suffix}",
            "Return the access token, renewed before if it does not live long enough.",
            answers(
                {"200": ("The token.", token), "304": ("The version in If-None-Match is current.", None)}
            ),
            parameters=(
                *place,
                query("fresh_for", SPAN, "How long the access token must still live."),
                query("scope", TEXT, "Words that the scope must contain, separated by blanks."),
                PREFER,
                header("If-None-Match"),
            ),
        ),
        "put": operation(
            f"putToken{suffix}",
            "Store a grant: the provider's token response.",
            answers({"200": ("It replaced a stored grant.", item), "201": ("It is new.", item)}),
            parameters=(*place, header("If-Match"), header("If-None-Match")),
            body={
                **json_of({"type": "object"}),
                **json_of(ref("Grant"), "application/vnd.refreshd.grant+json"),
            },
        ),
        "patch": operation(
            f"patchToken{suffix}",
            "Change meta and subject, or pause and resume (RFC 7396).",
            answers({"200": ("The token as it is now.", item)}),
            parameters=(*place, header("If-Match"), header("If-None-Match")),
            body={**json_of(ref("Patch")), **json_of(ref("Patch"), "application/merge-patch+json")},
        ),
        "delete": operation(
            f"deleteToken{suffix}",
            "Revoke the grant at the provider. With revoke=false, only remove the token: its grant stays valid.",
            answers(
                {
                    "202": ("The daemon revokes the grant.", json_of(ref("Revoking"))),
                    "204": ("It is removed.", None),
                }
            ),
            parameters=(
                *place,
                query("revoke", {"type": "boolean", "default": True}),
                header("If-Match"),
                header("If-None-Match"),
            ),
        ),
    }
