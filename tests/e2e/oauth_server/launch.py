"""Starts the server on a free loopback port, and prints one JSON line when it listens.

    python launch.py DIRECTORY --lifetime SECONDS --consents N [--redirect-uri URI]

With a redirect URI, its consent pages are there too: for the device client of its own, and for `person-0` and so on,
who sign in with their names as passwords. It runs until its standard input ends, so it can't outlive the test that started it.
"""

# mypy: disable-error-code="import-untyped, misc"
# (Django has no type stubs)

import argparse
import json
import secrets
import sys
from base64 import urlsafe_b64encode
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from threading import Thread

import django
from django.conf import settings
from django.core.management import call_command
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application
from django.db import transaction
from django.utils import timezone
from settings import page_settings, server_settings

REDIRECT_URI = "https://app.example/callback"
CLIENT_ID = "a client"
DEVICE_CLIENT_ID = "a-device"
CLIENT_SECRET = "s p+c/i:a%l"  # survives only where RFC 6749 section 2.3.1 is followed to the letter


class Server(ThreadedWSGIServer):
    request_queue_size = 256  # all of a sweep's connections at once


def main() -> None:
    options = _options()
    own = server_settings(options.directory, lifetime=timedelta(seconds=options.lifetime))
    settings.configure(**(own | page_settings() if options.redirect_uri else own))
    django.setup()
    from oauth2_provider.settings import oauth2_settings

    call_command("migrate", verbosity=0)
    consents = _consents(options.consents)
    if options.redirect_uri:
        _people_and_clients(options.consents, options.redirect_uri)
        _expect_scope()
    server = Server(("127.0.0.1", 0), WSGIRequestHandler)
    server.set_app(get_wsgi_application())
    url = f"http://127.0.0.1:{server.server_port}/o/token/"
    oauth2_settings.OAUTH_DEVICE_VERIFICATION_URI = url.replace("/token/", "/device/")
    known = {"token_url": url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "consents": consents}
    print(json.dumps(known), flush=True)
    Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


def _consents(number: int) -> list[dict[str, str]]:
    """So many people who have just agreed: for each the form that redeems the code of it."""
    from django.contrib.auth.models import User
    from oauth2_provider.models import Application, Grant

    verifier = secrets.token_urlsafe(48)
    with transaction.atomic():
        application = Application.objects.create(
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            hash_client_secret=False,  # else every request costs a password hash, and four a second is the end
            client_type=Application.CLIENT_CONFIDENTIAL,
            authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
            redirect_uris=REDIRECT_URI,
        )
        for index in range(number):
            Grant.objects.create(
                user=User.objects.create(username=f"person-{index}"),
                code=f"code-{index}-{verifier[:8]}",
                application=application,
                expires=timezone.now() + timedelta(hours=1),
                redirect_uri=REDIRECT_URI,
                scope="read write",
                code_challenge=urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode(),
                code_challenge_method="S256",
            )
        redeeming = {
            "grant_type": "authorization_code",
            "redirect_uri": REDIRECT_URI,
            "code_verifier": verifier,
        }
        return [{**redeeming, "code": grant.code} for grant in Grant.objects.order_by("pk")]


def _people_and_clients(number: int, redirect_uri: str) -> None:
    """Let the people sign in, and the client ask for their consent by a browser. Devices have a client of their own."""
    from django.contrib.auth.models import User
    from oauth2_provider.models import Application

    with transaction.atomic():
        for index in range(number):
            person = User.objects.get(username=f"person-{index}")
            person.set_password(person.username)
            person.save()
        Application.objects.filter(client_id=CLIENT_ID).update(redirect_uris=redirect_uri, name="refreshd")
        Application.objects.create(
            name="a device",
            client_id=DEVICE_CLIENT_ID,
            client_type=Application.CLIENT_PUBLIC,
            authorization_grant_type=Application.GRANT_DEVICE_CODE,
        )


def _expect_scope() -> None:
    """Let the device endpoint take a response with a scope, which oauthlib 4.0.1 sends and django-oauth-toolkit 3.4.1
    doesn't expect.
    """
    from oauth2_provider.views import device

    plain = device.DeviceCodeResponse

    def without_scope(*, scope: str = "", **fields: object) -> object:
        del scope
        return plain(**fields)

    device.DeviceCodeResponse = without_scope


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--lifetime", type=int, required=True)
    parser.add_argument("--consents", type=int, required=True)
    parser.add_argument("--redirect-uri", default="")
    return parser.parse_args()


if __name__ == "__main__":
    main()
