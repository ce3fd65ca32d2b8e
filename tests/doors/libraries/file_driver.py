"""A program as there are many: it shares a file of tokens with others, and refreshes a token that the provider refuses.

    URL CLIENT_ID CLIENT_SECRET RESOURCE COUNT FILE

The file is replaced as a whole, so that nobody reads half of it; there is no lock, as in most such programs. It prints, as
JSON, how many uses of a token the provider took, and how many refreshes failed.
"""

import json
import os
import random
import sys
from pathlib import Path

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session

url, client_id, client_secret, resource, count, name = sys.argv[1:]
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # http, on this machine
file, web = Path(name), requests.Session()


def works(account: str) -> bool:
    token = json.loads(file.read_text())[account]["access_token"]
    return web.get(resource, headers={"Authorization": f"Bearer {token}"}, timeout=20).status_code == 200


def refresh(account: str) -> None:
    tokens = json.loads(file.read_text())
    session = OAuth2Session(client_id, client_secret, token_endpoint_auth_method="client_secret_basic")
    tokens[account] = dict(session.refresh_token(url, refresh_token=tokens[account]["refresh_token"]))
    written = file.with_name(f"{file.name}.{os.getpid()}")
    written.write_text(json.dumps(tokens))
    written.replace(file)


taken = failed = 0
for _ in range(int(count)):
    one = random.choice(list(json.loads(file.read_text())))
    if not works(one):
        try:
            refresh(one)
        except OAuthError:
            failed += 1
            continue
    taken += works(one)
print(json.dumps({"taken": taken, "refreshes that failed": failed}))
