#!/usr/bin/env python3
"""A receiver of refreshd's hooks that mails each event by the system's mailer. It needs nothing but Python 3.11.

    HOOK_SECRET=whsec_... MAIL_TO=owner@example.com python3 mail.py

It listens on 127.0.0.1:8930 (PORT). The hook's section has url = "http://127.0.0.1:8930/" and allow_private = true. It
answers 204 once the mailer has accepted the mail, and 503 if it has not: refreshd then sends the event again. An event that
comes twice is mailed once, as long as this program runs.
"""

import base64
import hmac
import json
import os
import subprocess
import time
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer

KEYS = [base64.b64decode(text.removeprefix("whsec_")) for text in os.environ["HOOK_SECRET"].split()]
MAIL_TO = os.environ["MAIL_TO"]
SENDMAIL = os.environ.get("SENDMAIL", "/usr/sbin/sendmail")
PORT = int(os.environ.get("PORT", "8930"))
TOLERANCE = 300  # seconds between the clocks
LARGEST = 65_536  # bytes

WORDS = {
    "owner": "The owner of the account has to consent again.",
    "operator": "The operator of refreshd has to act.",
    "nobody": "Nobody has to act.",
}
mailed: dict[str, None] = {}  # ids, the oldest first


def verified(headers, body):
    """Return whether refreshd has signed `body`, a moment ago (Standard Webhooks)."""
    name, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not at.isascii() or not at.isdigit() or abs(time.time() - int(at[:12])) > TOLERANCE:
        return False
    content = f"{name}.{at}.".encode() + body
    wanted = ["v1," + base64.b64encode(hmac.digest(key, content, "sha256")).decode() for key in KEYS]
    given = headers.get("webhook-signature", "").encode("utf-8", "replace").split(b" ")
    return any(hmac.compare_digest(one.encode(), other) for one in wanted for other in given)


def mail(event):
    """Hand a mail to the system's mailer. Raises OSError, CalledProcessError or TimeoutExpired if it does not take it."""
    data = event["data"]
    about = str(data["id"] or data["provider"] or "refreshd")
    message = EmailMessage()
    message["To"] = MAIL_TO
    message["Subject"] = " ".join(f"refreshd: {event['type']} {about}".split())
    rows = [f"{name}: {value}" for name, value in data.items() if value is not None]
    message.set_content("\n".join([WORDS[data["who_acts"]], "", f"at: {event['timestamp']}", *rows, ""]))
    subprocess.run([SENDMAIL, "-i", "-t"], input=message.as_bytes(), check=True, timeout=15)


class Handler(BaseHTTPRequestHandler):
    timeout = 10

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > LARGEST:
            return self.answer(413)
        body = self.rfile.read(int(length))
        if not verified(self.headers, body):
            return self.answer(401)
        if (name := self.headers["webhook-id"]) not in mailed:
            try:
                mail(json.loads(body))
            except (OSError, subprocess.SubprocessError) as why:
                print(f"not mailed: {why}", flush=True)
                return self.answer(503)
            mailed[name] = None
            if len(mailed) > 10_000:
                del mailed[next(iter(mailed))]
        return self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


if __name__ == "__main__":
    server = HTTPServer(("127.0.0.1", PORT), Handler)
    print(f"listening on {server.server_address[1]}", flush=True)
    server.serve_forever()
