"""The paths of consents that an application begins."""

from daemon.runtime.access_web.openapi.parts import ACCOUNT, TEXT, answers, json_of, operation, ref


def connect_paths() -> dict[str, object]:
    """Return the paths of consents that an application begins."""
    consent = ({"name": "id", "in": "path", "required": True, "schema": TEXT},)
    secret = ({"name": "secret", "in": "path", "required": True, "schema": TEXT},)
    state, html = json_of(ref("Connect")), json_of(TEXT, "text/html")
    other = ("A page that says why the link can't be used.", html)
    return {
        "/v1/connect": {
            "post": operation(
                "connect",
                "Begin to connect an account: make a link for its owner, which works once, for 15 minutes.",
                answers({"201": ("The link.", json_of(ref("ConnectLink")))}),
                body=json_of(ref("ConnectWish")),
            )
        },
        "/v1/connect/{id}": {
            "get": operation(
                "getConnect",
                "Return the state of a consent that this key has begun.",
                answers({"200": ("The state.", state)}),
                parameters=consent,
            )
        },
        "/v1/connect/{id}/complete": {
            "post": operation(
                "completeConnect",
                "Prove that the browser that came to return_url belongs to the session that began the consent.",
                answers({"200": ("The token is stored.", state), "202": ("It is being stored.", state)}),
                parameters=consent,
                body=json_of(ref("ConnectProof")),
            )
        },
        "/connect/{secret}": {
            "get": operation(
                "showConnect",
                "The page for the account's owner. It changes nothing.",
                answers({"200": ("The page.", html), **dict.fromkeys(("404", "503"), other)}),
                parameters=secret,
                guarded=False,
            ),
            "post": operation(
                "pressConnect",
                "The page's button, for browsers only: it spends the link and leads to the provider.",
                answers(
                    {
                        "303": ("To the provider, with a cookie.", None),
                        "200": ("The same for browsers: a page that leads on.", html),
                        **dict.fromkeys(("403", "404", "503"), other),
                    }
                ),
                parameters=secret,
                guarded=False,
            ),
        },
        "/connect/callback/{provider}": {
            "get": operation(
                "callBack",
                "The redirect URI at the provider. It leads the owner's browser to return_url.",
                answers(
                    {
                        "303": ("To return_url.", None),
                        "200": ("The same for browsers, or a page if there is no return_url.", html),
                        **dict.fromkeys(
                            ("400", "503"), ("A page that says why nothing was connected.", html)
                        ),
                    }
                ),
                parameters=(ACCOUNT[0],),
                guarded=False,
            )
        },
    }
