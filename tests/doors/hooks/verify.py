"""Verifies what standard input has, with the library of Standard Webhooks: lines of {secret, body, headers}."""

import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

for line in sys.stdin:
    one = json.loads(line)
    try:
        print(json.dumps({"type": Webhook(one["secret"]).verify(one["body"], one["headers"])["type"]}))
    except WebhookVerificationError as error:
        print(json.dumps({"refused": str(error)}))
