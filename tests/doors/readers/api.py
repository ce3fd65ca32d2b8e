"""An API of a provider, and an imitation of `refreshd serve` that counts its requests."""

import json
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote

from tests.support import wall_clock

SLOW = 0.3  # seconds, in which others can ask for the same
STOPS_WITHIN = 0.01  # seconds; half a second if nobody says otherwise, twice for each test


class Api:
    """`/api/...` refuses the tokens in `refused` and all requests without one. `/away` redirects to `elsewhere`."""

    def __init__(self, elsewhere: str | None = None) -> None:
        self.refused: set[str] = set()
        self.seen: list[dict[str, Any]] = []  # each request
        self.served: Counter[str] = Counter()  # requests to the imitation, by path
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, elsewhere))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": STOPS_WITHIN}, daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def status_for(self, authorization: str | None) -> int:
        token = (authorization or "").removeprefix("Bearer ")
        return 401 if not token or token in self.refused or "every" in self.refused else 200


def _handler(api: Api, elsewhere: str | None) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, *_: object) -> None: ...

        def _answer(self) -> None:
            if self.path.startswith("/fake"):
                self._imitate()
                return
            authorization = self.headers["Authorization"]
            body = self._body()
            api.seen.append({"path": self.path, "authorization": authorization, "body": body})
            if self.path == "/away":
                self._send(302, {}, {"Location": f"{elsewhere}/api/away"})
                return
            self._send(api.status_for(authorization), {"body": body})

        def _body(self) -> str:
            if self.headers["Transfer-Encoding"] == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts).decode()
            return self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()

        def _imitate(self) -> None:
            """Answer as `refreshd serve` with a token, after a while."""
            api.served[self.path] += 1
            self._body()
            time.sleep(SLOW)
            parts = self.path.removeprefix("/fake/v1/tokens/").split("/")
            provider, account = parts[0], unquote(parts[1])
            if account == "another":
                account = "one-more"
            expires_at: datetime = wall_clock.now().astimezone(UTC) + timedelta(hours=1)
            body = {
                "id": f"{provider}:{account}",
                "access_token": f"at-{account}-{api.served[self.path]}",
                "expires_at": expires_at.isoformat(),
                "expires_in": 3600,
                "version": f"v{api.served[self.path]}".ljust(22, "-"),
            }
            self._send(200, body)

        def _send(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
            raw = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    return Handler
