"""An owner's browser without scripts: it follows redirects, keeps cookies, and fills in the first form of each page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from urllib.parse import urljoin

import aiohttp

LONGEST_WAY = 20  # requests


class Form(HTMLParser):
    """The first form of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.buttons: list[tuple[str, str]] = []
        self._inside = self._over = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        if tag == "form" and not self._over:
            self._inside, self.action = True, named.get("action", "")
        elif self._inside and tag in ("input", "button"):
            name, kind = named.get("name", ""), named.get("type", "submit" if tag == "button" else "text")
            if kind == "submit":
                self.buttons.append((name, named.get("value", "")))
            elif name and kind != "checkbox":
                self.fields[name] = named.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form" and self._inside:
            self._inside, self._over = False, True


class OwnerBrowser:
    """A session at one provider. `answers`: what the owner types, by the fields' names."""

    def __init__(self, session: aiohttp.ClientSession, answers: dict[str, str]) -> None:
        self._session = session
        self.answers = answers
        self.pages: list[str] = []

    async def walk(self, url: str, *, until: str = "", press: tuple[str, str] | None = None) -> str:
        """Go from page to page until the provider sends the browser to an address that begins with `until`, and return
        that address; or until a page has no form, and return its text. `press`: the button to use where there is one
        of this name, else the first one.
        """
        method, data, headers = "GET", None, {}
        for _ in range(LONGEST_WAY):
            async with self._session.request(
                method, url, data=data, headers=headers, allow_redirects=False
            ) as reply:
                text = await reply.text()
                assert reply.status < 400, (url, reply.status, text[:2000])
                if 300 <= reply.status < 400:
                    url, method, data, headers = urljoin(url, reply.headers["Location"]), "GET", None, {}
                    if until and url.startswith(until):
                        return url
                    continue
            self.pages.append(text)
            form = Form()
            form.feed(text)
            if form.action is None:
                return text
            fields = {name: self.answers.get(name, value) for name, value in form.fields.items()}
            if press is not None and any(name == press[0] for name, _ in form.buttons):
                fields[press[0]] = press[1]
            headers = {"Origin": str(aiohttp.client.URL(url).origin())}
            url, method, data = urljoin(url, form.action or url), "POST", fields
        raise AssertionError(f"the way has no end: {self.pages[-1][:2000]}")


@asynccontextmanager
async def owner(**answers: str) -> AsyncIterator[OwnerBrowser]:
    """A browser of an owner who types these answers."""
    jar = aiohttp.CookieJar(unsafe=True)  # cookies of an IP address
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        yield OwnerBrowser(session, answers)
