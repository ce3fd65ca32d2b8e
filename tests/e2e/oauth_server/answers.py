"""What the server answered, written down where the test can count it."""

# mypy: disable-error-code="import-untyped"
# (Django has no type stubs)

import json
from collections.abc import Callable
from threading import Lock

from django.conf import settings
from django.http import HttpRequest, HttpResponse


class WrittenDown:
    """A middleware: one JSON line per answer, without any token in it."""

    def __init__(self, answer: Callable[[HttpRequest], HttpResponse]) -> None:
        self._answer = answer
        self._lock = Lock()

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._answer(request)
        line = {
            "grant_type": request.POST.get("grant_type"),
            "status": response.status_code,
            "error": _error(response.content) if response.status_code >= 400 else None,
        }
        with self._lock, settings.ANSWERS_FILE.open("a") as file:
            file.write(json.dumps(line) + "\n")
        return response


def _error(body: bytes) -> object:
    try:
        return json.loads(body).get("error")
    except (ValueError, AttributeError):
        return body[:200].decode(errors="replace")
