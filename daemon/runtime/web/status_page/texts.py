"""The page's texts about each failure, pause and check: its meaning, who must act and what to do.

They are HTML, and contain no text from outside.
"""

from typing import NamedTuple

YOU, OWNER, TIME, NOBODY = "you", "its owner", "time", "nobody"

STATES = ("active", "needs_reauth", "paused")


class Kind(NamedTuple):
    """The text about an outcome: what happened, who must act and what to do."""

    means: str
    who: str
    do: str


class Counted(NamedTuple):
    """The text about tokens that are counted by provider: the weight, who must act, singular, plural and
    what to do.
    """

    weight: str
    who: str
    one: str
    more: str
    do: str


OUTCOMES = {
    "renewed": Kind("New tokens are stored.", NOBODY, ""),
    "superseded": Kind("A newer consent was stored during the refresh and is kept.", NOBODY, ""),
    "unavailable": Kind(
        "The provider did not answer, was too busy, or sent an unknown error.",
        TIME,
        "Nothing to do: refreshd retries automatically. If it persists, check the provider's status page.",
    ),
    "in_doubt": Kind(
        "It is unknown whether the provider processed the request: the reply is missing or inconclusive.",
        TIME,
        "Nothing to do: refreshd presents the same refresh token once more.",
    ),
    "rejected": Kind(
        "The provider no longer accepts this refresh token.",
        OWNER,
        "Its owner must consent again: <code>refreshd connect</code> asks for it, and <code>refreshd add</code> stores a token response that you have.",
    ),
    "misconfigured": Kind(
        "The provider refuses our client, not the token.",
        YOU,
        "Check this provider's client id, client secret, scope and URL in the configuration.",
    ),
    "unparsed": Kind(
        "The provider's reply can't be parsed with its definition. It is kept in the journal.",
        YOU,
        "Inspect it with <code>refreshd journal list</code>; the definition may need a correction.",
    ),
    "unreadable": Kind(
        "The stored document can't be opened or has wrong types. It was not changed.",
        YOU,
        "Check that the key it was sealed with is on the key ring, and which other programs write to the collection.",
    ),
    "unconfigured": Kind(
        "The token's provider is not configured.", YOU, "Configure this provider, or remove the token."
    ),
    "stuck": Kind(
        "The token has expired, and the provider has refused to renew it for hours. It is retried less and less often.",
        YOU,
        "Find out why the provider refuses this account. A new consent brings the token back.",
    ),
    "duplicate": Kind(
        "Another token holds the same refresh token, so this one is paused: presented twice, it could end the grant.",
        YOU,
        "Remove the token that your application doesn't use, or let its owner consent again.",
    ),
    "unsupported": Kind(
        "The grant is bound to a key that refreshd does not hold (such as DPoP), so it is not presented.",
        YOU,
        "Ask the provider for tokens that are not sender-constrained, or remove the token.",
    ),
}
UNKNOWN_OUTCOME = Kind("This page has no description of this outcome.", YOU, "Check the log.")

PAUSES = {
    "wrong_client": (YOU, "The provider refuses our client. Check its client id and client secret."),
    "misconfigured": (YOU, "Several tokens failed alike. Check this provider's configuration."),
    "outage": (TIME, "The provider does not answer. refreshd probes it regularly."),
    "unparsed": (
        TIME,
        "The provider sends pages instead of token responses. refreshd probes it regularly. If it persists, check its token URL.",
    ),
    "rejections": (
        YOU,
        "The provider rejects many healthy tokens. refreshd gives up none of them. Ask the provider what happened.",
    ),
    "operator": (YOU, "Paused by an operator; <code>refreshd resume</code> ends it."),
}

MANY_PAUSES = {  # in addition, if several providers are paused for it
    "outage": "If it began for all at the same time, check this machine's network and name resolution first.",
}

COUNTED = {
    "stuck": Counted(
        "warn",
        YOU,
        "token is stuck",
        "tokens are stuck",
        "They have expired, and the provider has refused to renew them for hours. They are retried less and less often. The last failures show the reason.",
    ),
    "revocation_failed": Counted(
        "warn",
        YOU,
        "grant could not be revoked",
        "grants could not be revoked",
        "They are still valid at the provider, and are not handed out. <code>token.revocation_failed</code> in the log lists them with the reason.",
    ),
    "set_aside": Counted(
        "warn",
        YOU,
        "document can't be used",
        "documents can't be used",
        "They are not refreshed. <code>token.unreadable</code> in the log lists them.",
    ),
    "held": Counted(
        "warn",
        TIME,
        "token waits for a lost instance",
        "tokens wait for a lost instance",
        "Start that instance again on its own disk, or wait until its claims expire.",
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
    "store": "No token is refreshed until MongoDB is back. Check that it is running and that its URI and credentials are right.",
    "journal": "Refreshing is suspended until replies can be kept. Check free space and permissions of the state directory.",
    "keys": "Stored tokens can't be opened. Check the key ring in the configuration.",
    "sweep": "Due tokens are not being claimed. The log shows the reason, usually an outage of MongoDB.",
    "clock": "Check time synchronisation on this machine and on MongoDB's.",
    "lanes": "Tokens of these providers may not be refreshed, because of a bug or a document that refreshd can't process:"
    " see <code>internal.error</code> in the log.",
    "secrets": "Tokens of these providers are not refreshed until their client's secret has come. Check its source:"
    " <code>secret.away</code> in the log names it.",
}
