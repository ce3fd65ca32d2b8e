"""What the page says about each failure, pause and check: what it means, who must act, and what to do. HTML, ours alone."""

from typing import NamedTuple

YOU, OWNER, TIME, NOBODY = "you", "its owner", "time", "nobody"

STATES = ("active", "needs_reauth", "paused")


class Kind(NamedTuple):
    """Of an outcome: what happened, who must act, and what to do."""

    means: str
    who: str
    do: str


class Counted(NamedTuple):
    """Of tokens that are counted by provider: how grave that is, who must act, what is said of one and of more, and
    what to do.
    """

    weight: str
    who: str
    one: str
    more: str
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
        "Whether the provider processed the request is unknown: its reply is missing, or says nothing about that.",
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
    "unparsed": Kind(
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
    "stuck": Kind(
        "The token is past its expiry and has been refused for hours. It is asked for ever more rarely.",
        YOU,
        "Find out why the provider refuses this account. A new consent brings the token back.",
    ),
    "unsupported": Kind(
        "The grant is bound to a key that refreshd does not hold (such as DPoP), so it is not presented.",
        YOU,
        "Ask the provider for tokens that are not sender-constrained, or remove the token.",
    ),
}
UNKNOWN_OUTCOME = Kind("This page does not know this outcome.", YOU, "Look into the log.")

PAUSES = {
    "wrong_client": (YOU, "The provider refuses our client. Check its client id and client secret."),
    "misconfigured": (YOU, "Several tokens failed alike. Check this provider's configuration."),
    "outage": (TIME, "The provider does not answer. It is probed now and then."),
    "unparsed": (
        TIME,
        "The provider sends pages in the place of answers. It is probed now and then. If it lasts, check its token URL.",
    ),
    "rejections": (
        YOU,
        "The provider rejects many tokens that were well before. None is given up for it. Ask the provider what happened.",
    ),
    "operator": (YOU, "Paused by an operator; <code>refreshd resume</code> ends it."),
}

COUNTED = {
    "stuck": Counted(
        "warn",
        YOU,
        "token is stuck",
        "tokens are stuck",
        "Past their expiry and refused for hours, they are asked for ever more rarely. The last failures say why.",
    ),
    "set_aside": Counted(
        "warn",
        YOU,
        "document can't be used",
        "documents can't be used",
        "They are not refreshed. <code>token.unreadable</code> in the log names them.",
    ),
    "held": Counted(
        "warn",
        TIME,
        "token waits for an instance that is gone",
        "tokens wait for an instance that is gone",
        "Start that instance again on its own disk, or wait until its claims run out.",
    ),
    "ending": Counted(
        "calm",
        OWNER,
        "token will need a new consent within a week",
        "tokens will need a new consent within a week",
        "",
    ),
}

CHECKS = {
    "store": "No token is refreshed until MongoDB is back. Check that it runs and that its URI and login are right.",
    "journal": "No provider is asked while a reply could not be kept. Check space and rights of the state directory.",
    "keys": "Stored tokens can't be opened. Check the key ring in the configuration.",
    "sweep": "What is due is not being looked for. The log says why; MongoDB away is the usual reason.",
    "clock": "Check time synchronisation on this machine and on MongoDB's.",
    "lanes": "None of these providers' tokens may be refreshed. It is a bug, or a document that refreshd can't cope with:"
    " <code>internal.error</code> in the log says which.",
}
