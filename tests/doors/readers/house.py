"""What the readers are tested beside: MongoDB, a provider, the daemon and `refreshd serve`, each a real process."""

import io
import json
import os
import queue
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, redirect_stderr, redirect_stdout
from datetime import timedelta
from http.cookiejar import CookieJar
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest import mock
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection

from daemon.__main__ import main
from daemon.adapters.keyring import KEY_BYTES, KeyRing
from daemon.domain.served_token import version_of

ROOT = Path(__file__).parents[3]
PROVIDER, KEY_ID = "sandbox", "2026-11"
RECONNECT = "https://app.example.com/reconnect?token={id}"
PATIENCE = timedelta(seconds=30)
VERBS = "read,refuse,write,replace,pause,connect,revoke,list"
RETURN = "https://app.example.com/connected"

Document = dict[str, Any]


class Started(AbstractContextManager["Started"]):
    """A process that writes lines of JSON. It is killed at the end."""

    def __init__(self, *command: str, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lines: queue.Queue[Document | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def line(self, **match: object) -> Document:
        """Return the next line with these fields."""
        end = time.monotonic() + PATIENCE.total_seconds()
        while True:
            line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            assert line is not None, "the process has ended"
            if match.items() <= line.items():
                return line

    def ask(self, request: object) -> Document:
        """Send a line, and return the line that answers it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.line()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            try:
                self._lines.put(json.loads(text))
            except ValueError:
                continue
        self._lines.put(None)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leaves a redirect to the caller, as an HTTPError."""

    def redirect_request(self, *_arguments: object) -> None:
        return None


class House:
    """One installation. `with House(...) as house`: its processes run until the block ends."""

    def __init__(self, directory: Path, *, uri: str, database: str) -> None:
        directory.mkdir(mode=0o700)
        self.directory, self._database = directory, database
        self.key = os.urandom(KEY_BYTES)
        self.ring = KeyRing({KEY_ID: self.key}, active=KEY_ID)
        self.config = directory / "config.toml"
        self.readers = directory / "readers.jsonl"
        self.socket = directory / "access.sock"
        self.mongodb = uri.replace("/?", f"/{database}?")
        self._uri = uri
        self._client = MongoClient[Document](uri, tz_aware=True)
        self.tokens: Collection[Document] = self._client[database]["tokens"]
        self._running = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as run:
            run.callback(self._client.close)
            self.sandbox = run.enter_context(self._start("sandbox", "--lifetime", "1h")).line()
            self._configure("config.toml", listen="port = 0")
            self._configure("socket.toml", listen=f'socket = "{self.socket}"')
            self.readers.touch(mode=0o600)
            self.readers.write_text(self.refreshd("keys", "reader", "--all"))
            run.enter_context(self._start("run")).line(event="daemon.started")
            self.url = run.enter_context(self._start("serve")).line(event="access.started")["url"]
            run.enter_context(self._start("serve", config="socket.toml")).line(event="access.started")
            self.access_key = self.create_key("all", f"{PROVIDER}:*", VERBS)
            self._running = run.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def environment(self, transport: str) -> dict[str, str]:
        """Return the variables that an application needs."""
        match transport:
            case "http":
                return {"REFRESHD_URL": self.url, "REFRESHD_ACCESS_KEY": self.access_key}
            case "unix":
                return {"REFRESHD_URL": f"unix:{self.socket}", "REFRESHD_ACCESS_KEY": self.access_key}
            case _:
                return {"MONGODB_URI": self.mongodb, "REFRESHD_READERS": str(self.readers)}

    def create_key(self, name: str, tokens: str, can: str) -> str:
        made = self.refreshd("access", "create", name, "--tokens", tokens, "--can", can, "--json")
        return str(json.loads(made)["key"])

    # ---------------------------------------------------------------- consents

    def browse(self, url: str, decision: str) -> dict[str, str]:
        """Go the owner's way from the link, and return the parameters that the application's page gets."""
        link, cookies = urlsplit(url), CookieJar()
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies), _NoRedirect())
        with browser.open(url, timeout=10) as shown:
            assert shown.status == 200
        pressed = self._redirected(browser, url, b"", Origin=f"{link.scheme}://{link.netloc}")
        form = urlencode({"decision": decision, "account": "me"}).encode()
        back = self._redirected(browser, self._redirected(browser, pressed, form))
        assert back.startswith(f"{RETURN}?")
        return dict(parse_qsl(urlsplit(back).query))

    def _redirected(
        self, browser: urllib.request.OpenerDirector, url: str, body: bytes | None = None, **headers: str
    ) -> str:
        """Return where the answer sends the browser."""
        request = urllib.request.Request(url, data=body, headers=headers)
        with pytest.raises(urllib.error.HTTPError) as answered:
            browser.open(request, timeout=PATIENCE.total_seconds())
        with answered.value as answer:
            assert answer.status == 303, answer.read()
            return str(answer.headers["Location"])

    # ---------------------------------------------------------------- tokens

    def consent(self) -> Document:
        """Return the provider's token response for a new grant."""
        request = urllib.request.Request(f"{self.sandbox['url']}/grants?n=1", method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            response: Document = json.load(answer)[0]
        return response

    def withdraw(self, grant: str) -> None:
        """The owner ends the consent."""
        request = urllib.request.Request(f"{self.sandbox['url']}/grants/{grant}", method="DELETE")
        urllib.request.urlopen(request, timeout=10).close()

    def add(self, account: str, **more: object) -> Document:
        """Store a token by the daemon's own command. Returns the provider's response."""
        response = self.consent() | more
        grant = response.pop("grant")
        self.refreshd("add", PROVIDER, account, stdin=json.dumps(response))
        return {**response, "grant": grant}

    def stored(self, account: str) -> Document:
        found = self.tokens.find_one({"_id": f"{PROVIDER}:{account}"})
        assert found is not None
        return found

    def access_token(self, account: str) -> str:
        token_id = f"{PROVIDER}:{account}"
        return self.ring.open(self.stored(account)["access_token"], token_id=token_id, field="access_token")

    def version(self, account: str) -> str:
        return version_of(self.stored(account)["access_token"])

    def renew(self, account: str) -> None:
        """Let the daemon renew the token, and wait for it."""
        before = self.version(account)
        self.refreshd("refresh", f"{PROVIDER}:{account}")
        self.until(lambda: self.version(account) != before)

    def until(self, holds: Any) -> None:
        end = time.monotonic() + PATIENCE.total_seconds()
        while not holds():
            assert time.monotonic() < end
            time.sleep(0.05)

    # ---------------------------------------------------------------- commands

    def refreshd(self, *arguments: str, stdin: str = "") -> str:
        """Give a command of the daemon in this process, which is quick. Returns its output."""
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
        given = io.TextIOWrapper(io.BytesIO(stdin.encode()), "utf-8")
        argv = ["refreshd", "--config", str(self.config), *arguments]
        with (
            redirect_stdout(out),
            redirect_stderr(err),
            mock.patch.object(sys, "argv", argv),
            mock.patch.object(sys, "stdin", given),
        ):
            code = main()
        texts = []
        for stream in (out, err):
            stream.flush()
            stream.seek(0)
            texts.append(stream.read())
        assert code == 0, texts
        return texts[0]

    def _start(self, *arguments: str, config: str | None = None) -> Started:
        named = ("--config", str(self.config if config is None else self.directory / config))
        return Started(
            sys.executable,
            "-m",
            "daemon",
            *(named if arguments[0] != "sandbox" else ()),
            *arguments,
            cwd=ROOT,
        )

    def _configure(self, name: str, *, listen: str) -> None:
        file = self.directory / name
        file.touch(mode=0o600)
        file.write_text(
            f"""
            [store]
            uri = "{self._uri}"
            database = "{self._database}"
            [state]
            dir = "state"
            [refresh]
            sweep_every = "1s"
            [keys]
            active = "{KEY_ID}"
            ring = {{ "{KEY_ID}" = "{b64encode(self.key).decode()}" }}
            [server]
            port = 0
            [access]
            {listen}
            reconnect_url = "{RECONNECT}"
            return_urls = ["{RETURN}"]
            [log]
            format = "json"
            [providers.{PROVIDER}]
            token_url = "{self.sandbox["token_url"]}"
            authorize_url = "{self.sandbox["authorize_url"]}"
            client_id = "{self.sandbox["client_id"]}"
            client_secret = "{self.sandbox["client_secret"]}"
            keep = ["api_domain"]
            """
        )
