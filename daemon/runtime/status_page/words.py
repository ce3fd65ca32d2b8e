"""What the page says about each failure, pause and check: what it means, who must act, and what to do. HTML, ours alone."""

from typing import NamedTuple

YOU, OWNER, TIME, NOBODY = "you", "its owner", "time", "nobody"

STATES = ("active", "needs_reauth", "paused")


class Kind(NamedTuple):
    """Of an outcome: what happened, who must act, and what to do."""

    means: str
    who: str
    do: str


OUTCOMES = {
    "renewed": Kind("New tokens are stored.", NOBODY, ""),
    "superseded": Kind("A newer consent was stored meanwhile, and stays.", NOBODY, ""),
    "unavailable": Kind(
        "The provider did not answer, was too busy, or said something unknown.",
        TIME,
        "Nothing to do: it is tried again by itself. If it lasts, look at the provider's own status page.",
    ),
    "in_doubt": Kind(
        "A request went out and no reply came.",
        TIME,
        "Nothing to do: the same refresh token is presented once more.",
    ),
    "rejected": Kind(
        "The provider does not take this refresh token any more.",
        OWNER,
        "Its owner must consent again; then store the new tokens with <code>refreshd add</code>.",
    ),
    "misconfigured": Kind(
        "The provider refuses our client, not the token.",
        YOU,
        "Check this provider's client id, client secret, scope and URL in the configuration.",
    ),
    "unread": Kind(
        "A reply came that this provider's definition can't read. It is kept.",
        YOU,
        "Look at it with <code>refreshd journal list</code>; the definition may need a correction.",
    ),
    "unreadable": Kind(
        "The stored document can't be opened or is ill-typed. It was left as it is.",
        YOU,
        "Check that the key it was sealed with is on the key ring, and who else writes to the collection.",
    ),
    "unconfigured": Kind(
        "The token's provider is not configured.", YOU, "Configure this provider, or remove the token."
    ),
}
UNKNOWN_OUTCOME = Kind("This page does not know this outcome.", YOU, "Look into the log.")

PAUSES = {
    "wrong_client": (YOU, "The provider refuses our client. Check its client id and client secret."),
    "misconfigured": (YOU, "Several tokens failed alike. Check this provider's configuration."),
    "outage": (TIME, "The provider does not answer. It is probed now and then."),
    "operator": (YOU, "Paused by an operator; <code>refreshd resume</code> ends it."),
}

CHECKS = {
    "store": "No token is refreshed until MongoDB is back. Check that it runs and that its URI and login are right.",
    "journal": "No provider is asked while a reply could not be kept. Check space and rights of the state directory.",
    "keys": "Stored tokens can't be opened. Check the key ring in the configuration.",
    "sweep": "What is due is not being looked for. The log says why; MongoDB away is the usual reason.",
    "clock": "Check time synchronisation on this machine and on MongoDB's.",
}
