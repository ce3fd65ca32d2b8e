# mypy: disallow-untyped-decorators=False
"""A rival: Celery with a task for each due token, Authlib's session for Requests, and PyMongo.

    celery --app celery_authlib worker --pool prefork --concurrency 2

Each worker process has a session and a client of its own, kept over tasks. The tasks are short and many, so a worker
fetches more than one ahead, as Celery's guide advises for such.
"""

import os
from datetime import UTC, datetime
from typing import Any

from authlib.integrations.requests_client import OAuth2Session
from celery import Celery
from celery.signals import worker_process_init, worker_ready
from pymongo import MongoClient
from pymongo.collection import Collection
from stored import COLLECTION, DATABASE, DUE_INDEX, MONGODB, NEEDED, OAUTH, TOKEN_URL, due, opened, renewal

app = Celery("celery_authlib", broker=os.environ["RIVAL_REDIS"])
app.conf.update(
    task_acks_late=True,  # a worker that dies leaves its task to another
    task_ignore_result=True,
    worker_prefetch_multiplier=64,
    broker_connection_retry_on_startup=True,
)


class Connections:
    """Of one worker process: neither a client of MongoDB nor a session outlives a fork."""

    tokens: Collection[dict[str, Any]]
    oauth: OAuth2Session


@worker_process_init.connect
def connect(**_: object) -> None:
    Connections.tokens = MongoClient[dict[str, Any]](**MONGODB)[DATABASE][COLLECTION]
    Connections.tokens.create_index(DUE_INDEX)
    Connections.oauth = OAuth2Session(**OAUTH)


@worker_ready.connect
def tell(**_: object) -> None:
    print("ready", flush=True)


@app.task
def sweep() -> None:
    """A task for each due token. To be called less often than it takes to do them all, or some are done twice."""
    for token in Connections.tokens.find(due(), {"_id": 1}):
        refresh.delay(token["_id"])


@app.task
def refresh(token_id: str) -> None:
    token = Connections.tokens.find_one({"_id": token_id, **due()}, NEEDED)
    if token is None:
        return
    asked_at = datetime.now(UTC)
    reply = Connections.oauth.refresh_token(TOKEN_URL, refresh_token=opened(token))
    Connections.tokens.update_one({"_id": token_id}, renewal(token_id, reply, asked_at=asked_at))
