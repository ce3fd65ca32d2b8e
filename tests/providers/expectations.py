"""What every provider's answers must come to, one row each: what we read, and so what becomes of the stored token.

Written down from the providers' pages and from what was seen of them, neither from the definitions nor from the
sandbox's fixtures, so that each row is a third voice. What a row doesn't say is as in `STANDARD`. An answer is told in
words (`told`); where a provider has several wordings for one situation, there is one text for each, in the sandbox's
order.
"""

from datetime import timedelta
from typing import Any

from tests.providers import row as rows
from tests.providers import rows_commerce, rows_devices, rows_platforms, rows_social
from tests.providers.row import DAY, HOUR, SECOND_HAND, STANDARD, UNSHOWN, Rows

# How many hours an access token lives by the provider's own word, which counts where a reply tells no end. For the
# others an hour is safe to assume.
_HOURS = {
    5 / 60: "keycloak sage-accounting",
    10 / 60: "exact-online snowflake",
    20 / 60: "myob",
    0.5: "hubspot servicenow squarespace xero zendesk",
    1: "airtable amazon-selling-partner asana atlassian bamboohr box google okta pipedrive quickbooks shopify spotify zoho"
    " zoom box-jwt docusign-jwt github-app google-delegation google-service-account",
    1.5: "procore",
    2: "bitbucket calendly ebay gitlab gusto outreach salesloft twitter-v2",
    4: "canva dropbox twitch wix",
    6: "strava",
    8: "docusign github-app-oauth",
    12: "freshbooks slack",
    24: "adobe constant-contact gong linear reddit",
    24 * 7: "smartsheet",
    24 * 14: "basecamp",
    24 * 30: "deel",
    24 * 90: "figma",
    60 * 24: "facebook linkedin",
}
DOCUMENTED = {name: timedelta(hours=hours) for hours, names in _HOURS.items() for name in names.split()}


ROWS: Rows = {}
MINUTE = timedelta(minutes=1)


def row(definition: str, **more: Any) -> None:
    more.setdefault("documented", DOCUMENTED.get(definition, HOUR))
    ROWS.update(rows.row(definition, **more))


row("adobe", every=1, always=True, refresh_ends=14 * DAY, unsettled=UNSHOWN)
row("airtable", every=1, always=True, refresh_ends=60 * DAY, unsettled=SECOND_HAND)
row("amazon-selling-partner", every=3, refresh_ends=365 * DAY, confirmed=MINUTE)
row("asana", every=0, told=False, keeps={"data_gid": "4673218951"}, unsettled=UNSHOWN)
row(
    "atlassian", every=1, always=True, refresh_ends=90 * DAY,
    says={"wrong client": ["Misconfigured access_denied (client)"]},
)  # fmt: skip
row("auth0", every=0, told=False, says={"wrong client": ["Misconfigured access_denied (client)"]})
row(
    "auth0", sandbox="auth0-rotating", every=1,
    says={"wrong client": ["Misconfigured access_denied (client)"]},
)  # fmt: skip
row(
    "basecamp",
    every=0,
    told=False,
    unsettled="an error is a sentence there, and that of a dead grant is not known",
)
row("bamboohr", every=0, unsettled=UNSHOWN, keeps={"companyDomain": "example"})
row(
    "bitbucket", every=1, refresh_ends=90 * DAY, unsettled="its words are those of a report of 2017",
    says={
        "dead grant": ["Rejected invalid_request", "Rejected invalid_grant"],
        # the second: a request that is no form, under the standard's word for a dead grant
        "server error": [*STANDARD["server error"], "Unavailable invalid_grant"],
    },
)  # fmt: skip
row("box", every=1, always=True, refresh_ends=60 * DAY, says={"dead grant": ["Rejected invalid_grant"] * 2})
row(
    "calendly", every=1, always=True, unsettled=SECOND_HAND,
    keeps={
        "owner": "https://api.calendly.com/users/EXAMPLE",
        "organization": "https://api.calendly.com/organizations/EXAMPLE",
    },
)  # fmt: skip
row(
    "canva", every=1, always=True,
    says={  # the words stand in `code`
        "wrong client": ["Misconfigured invalid_client (client)", "Misconfigured invalid_access_token (client)"],
        "throttle": ["Unavailable too_many_requests, wait 60 s"],
        "throttle, Retry-After: 7": ["Unavailable too_many_requests, wait 60 s"],
    },
)  # fmt: skip
row(
    "close", every=1, always=True, unsettled=UNSHOWN,
    keeps={"organization_id": "orga_example", "user_id": "user_example"},
)  # fmt: skip
row("constant-contact", every=1, refresh_ends=180 * DAY, unsettled=SECOND_HAND)
row(
    "databricks", every=0, unsettled=SECOND_HAND,
    says={"dead grant": ["Rejected invalid_request"]},  # not the standard's word
)  # fmt: skip
row("deel", every=1, always=True, refresh_ends=90 * DAY)
row("docusign", every=3, refresh_ends=30 * DAY, unsettled=UNSHOWN)
row(
    "dropbox", every=0, told=False, confirmed=MINUTE,
    first={"account_id": "dbid:AAAAexample", "uid": "12345"},
)  # fmt: skip
row("ebay", every=0, told=False, refresh_ends=547 * DAY, confirmed=MINUTE)
row(
    "exact-online", every=1, always=True, refresh_ends=30 * DAY, unsettled=SECOND_HAND,
    says={
        # the first: a spent one, under the standard's word for a wrong client
        "dead grant": ["Rejected unauthorized_client", "Rejected invalid_grant"],
        "throttle": ["Unavailable access_denied, wait 60 s"],
        "throttle, Retry-After: 7": ["Unavailable access_denied, wait 60 s"],
    },
)  # fmt: skip
row(
    "facebook", every=0, told=False,
    says={
        "dead grant": ["Rejected 190"],
        "wrong client": ["Misconfigured 1 (client)", "Misconfigured 101 (client)"],
        "throttle": ["Unavailable 4", "Unavailable 17", "Unavailable 32"],
        "throttle, Retry-After: 7": [f"Unavailable {code}, wait 7 s" for code in (4, 17, 32)],
        "server error": ["Unavailable 1, in doubt"],  # the code of a wrong secret too: the message decides
    },
)  # fmt: skip
row("figma", every=0, told=False, unsettled=UNSHOWN)
row("fortnox", every=1, always=True, refresh_ends=45 * DAY)
row("freshbooks", every=1, always=True, unsettled=UNSHOWN)
row("front", every=0, refresh_ends=182 * DAY, unsettled=UNSHOWN)
row("generic", sandbox="sandbox", every=1, unsettled="another server, other words")
row(
    "github-app-oauth", every=1, always=True, refresh_ends=182 * DAY,
    says={
        "dead grant": ["Rejected bad_refresh_token"],  # with status 200, as the next
        "wrong client": ["Misconfigured incorrect_client_credentials (client)"],
    },
)  # fmt: skip
row("gitlab", every=1, always=True)
row(
    "gong", every=1, unsettled=SECOND_HAND,
    keeps={"api_base_url_for_customer": "https://company-17.api.gong.io"},
)  # fmt: skip
row(
    "google", every=0, told=False, refresh_ends=182 * DAY, confirmed=MINUTE,
    says={"dead grant": ["Rejected invalid_grant"] * 2},
)  # fmt: skip
row(
    "gusto", every=1, always=True, unsettled=UNSHOWN,
    first={"company_uuid": "ef0ed8cf-0000-4000-8000-000000000000"},
)  # fmt: skip
row(
    "hubspot", every=0, keeps={"hub_id": 62515},
    says={  # `status` decides, whatever stands under `error`
        "dead grant": ["Rejected invalid_grant", "Rejected invalid_request", "Rejected access_denied"],
        "wrong client": ["Misconfigured BAD_CLIENT_SECRET (client)", "Misconfigured BAD_CLIENT_ID (client)"],
    },
)  # fmt: skip
row(
    "keycloak", every=1, refresh_ends=timedelta(minutes=30), confirmed=MINUTE,
    says={
        "dead grant": ["Rejected invalid_grant"] * 3,
        # RFC 6749 has invalid_client for this. Read by the standard: several that fail alike tell that it is us.
        "wrong client": ["Misconfigured unauthorized_client (provider)"],
    },
)  # fmt: skip
row(
    "klaviyo", every=0, refresh_ends=90 * DAY, confirmed=timedelta(minutes=1),
    says={"dead grant": ["Rejected invalid_grant_type", "Rejected invalid_grant"]},
)  # fmt: skip
row(
    "lever",
    every=0,
    told=False,
    refresh_ends=90 * DAY,
    unsettled="its server is Auth0's, whose words are expected",
)
row("linear", every=1, unsettled=SECOND_HAND)
row("linkedin", every=0, refresh_ends=365 * DAY, unsettled="the status is known, the code is not")
row(
    "microsoft", every=1, always=True, refresh_ends=90 * DAY, confirmed=timedelta(minutes=1),
    says={
        "dead grant": [*["Rejected invalid_grant"] * 5, "Rejected interaction_required"],
        "throttle": [
            "Unavailable temporarily_unavailable, wait 60 s",
            "Unavailable invalid_grant, wait 60 s",  # AADSTS50196, the loop protection: it isn't dead at all
        ],
        "throttle, Retry-After: 7": [
            "Unavailable temporarily_unavailable, wait 7 s",
            "Unavailable invalid_grant, wait 60 s",
        ],
    },
)  # fmt: skip
row(
    "miro", every=1, always=True, refresh_ends=60 * DAY,
    unsettled="an error has a code for all and a sentence, and that of a dead grant is not known",
    keeps={"team_id": "3074457345618265000", "user_id": "3074457345618265000"},
    says={"dead grant": ["Rejected invalid_grant", "Unavailable oauthError"]},
)  # fmt: skip
row(
    "myob", every=1, refresh_ends=7 * DAY, unsettled=UNSHOWN,
    keeps={"user_uid": "0c5f2d6e-0000-4000-8000-000000000000"},
)  # fmt: skip
row("netsuite", every=0, told=False, refresh_ends=7 * DAY)
row(
    "notion", every=1, always=True, lives=timedelta(hours=1), unsettled=SECOND_HAND,
    keeps={
        "workspace_id": "j565j4d7-ad78-44b0-9a6f-3a5f7b4c1d22",
        "bot_id": "b3414d65-1224-4c8e-9f4b-0b5b0e0e1a11",
    },
)  # fmt: skip
row("okta", every=0, refresh_ends=7 * DAY)
row("okta", sandbox="okta-rotating", every=1, refresh_ends=7 * DAY)
row("outreach", every=1, refresh_ends=14 * DAY, unsettled="the status is known, the words are not")
row(
    "pipedrive", every=3, refresh_ends=60 * DAY, unsettled=UNSHOWN,
    keeps={"api_domain": "https://example.pipedrive.com"},
    says={"dead grant": ["Rejected invalid_grant"] * 2},
)  # fmt: skip
row("procore", every=1, always=True, spends=True, unsettled=SECOND_HAND)
row(
    "quickbooks", every=24, refresh_ends=101 * DAY, confirmed=timedelta(minutes=10),
    says={"outage": [*STANDARD["outage"], "Rejected invalid_grant"]},  # so it must be said twice
)  # fmt: skip
row(
    "reddit", every=0, told=False, confirmed=timedelta(minutes=1),
    unsettled="any bad request is worded like this, so it must be said twice",
    says={
        "dead grant": ["Rejected 400"],
        "wrong client": ["Misconfigured 401 (client)"],
        "throttle": ["Unavailable 429"],
        "throttle, Retry-After: 7": ["Unavailable 429, wait 7 s"],
    },
)  # fmt: skip
row(
    "ringcentral", every=1, always=True, refresh_ends=7 * DAY, unsettled=SECOND_HAND,
    keeps={"owner_id": "256440016", "endpoint_id": "8Jqexample"},
    says={
        "dead grant": ["Rejected invalid_grant"] * 2,
        "throttle": ["Unavailable CMN-301, wait 60 s"],
        "throttle, Retry-After: 7": ["Unavailable CMN-301, wait 7 s"],
        "outage": ["Unavailable CMN-211, wait 60 s, in doubt"],
    },
)  # fmt: skip
row(
    "sage-accounting", every=1, always=True, refresh_ends=31 * DAY, confirmed=timedelta(minutes=1),
    keeps={"requested_by_id": "aa111bb2-0000-4000-8000-000000000000"},
)  # fmt: skip
row("sage-intacct", every=1, unsettled=UNSHOWN)
SALESFORCE = {
    "lives": timedelta(hours=1),
    "confirmed": MINUTE,
    "keeps": {
        "instance_url": "https://example.my.salesforce.com",
        "id": "https://login.salesforce.com/id/00D000000000000EAA/005000000000000AAA",
    },
    "says": {
        "dead grant": ["Rejected invalid_grant"] * 2,
        "wrong client": ["Misconfigured invalid_client (client)", "Misconfigured invalid_client_id (client)"],
    },
}
row("salesforce", every=0, told=False, **SALESFORCE)
row("salesforce", sandbox="salesforce-rotating", every=1, **SALESFORCE)
row("salesloft", every=1, unsettled="the status is known, the words are not")
row("sandbox", every=1, always=True)
row("servicenow", every=0, refresh_ends=100 * DAY, unsettled=UNSHOWN)
row(
    "shopify", every=1, always=True, refresh_ends=90 * DAY,
    unsettled="some 4xx: only the standard's word is taken for it, and any other is tried again",
)  # fmt: skip
row(
    "slack", every=1, always=True, keeps={"team_id": "T9TK3CUKW", "bot_user_id": "U0KRQLJ9H"},
    says={
        "dead grant": ["Rejected invalid_refresh_token"],  # with status 200, as the next and the last
        "wrong client": ["Misconfigured bad_client_secret (client)", "Misconfigured invalid_client_id (client)"],
        "throttle": ["Unavailable ratelimited, wait 30 s"],
        "throttle, Retry-After: 7": ["Unavailable ratelimited, wait 7 s"],
        "server error": ["Unavailable internal_error, in doubt", "Unavailable fatal_error, in doubt"],
    },
)  # fmt: skip
row("smartsheet", every=1, always=True)
SNOWFLAKE = {"refresh_ends": 90 * DAY, "first": {"username": "OWNER"}, "unsettled": SECOND_HAND}
row("snowflake", every=0, told=False, **SNOWFLAKE)
row("snowflake", sandbox="snowflake-rotating", every=1, **SNOWFLAKE)
row("spotify", every=3, told=False, refresh_ends=182 * DAY)
row("squarespace", every=1, refresh_ends=7 * DAY, unsettled=UNSHOWN)
row(
    "strava", every=1, first={"athlete_id": 134815},
    says={  # no `error` at all: who or what is at fault stands in `errors`
        "dead grant": ["Rejected RefreshToken"] * 2,
        "wrong client": ["Misconfigured Application (client)"] * 2,
        "throttle": ["Unavailable exceeded"],
        "throttle, Retry-After: 7": ["Unavailable exceeded, wait 7 s"],
    },
)  # fmt: skip
row(
    "stripe-apps", every=1, lives=timedelta(hours=1), refresh_ends=365 * DAY, unsettled=UNSHOWN,
    keeps={"stripe_user_id": "acct_1032D82eZvKYlo2C", "livemode": False},
    says={
        "wrong client": ["Misconfigured invalid_client (client)", "Misconfigured invalid_request_error (client)"]
    },
)  # fmt: skip
row(
    "twitch", every=3,
    says={  # a sentence, and at most a status' name as `error`
        "dead grant": ["Rejected Bad Request", "Rejected http_401"],
        "wrong client": ["Misconfigured http_403 (client)", "Misconfigured http_400 (client)"],
    },
)  # fmt: skip
row(
    "twitter-v2", every=1, always=True,
    says={
        "dead grant": ["Rejected invalid_request", "Rejected invalid_grant"],
        "wrong client": ["Misconfigured unauthorized_client (provider)"],
    },
)  # fmt: skip
row(
    "wix", every=0, told=False, unsettled="there is no refresh token that could be invalid",
    says={"dead grant": ["Rejected invalid_grant"]},
)  # fmt: skip
row("wrike", every=1, unsettled=UNSHOWN, keeps={"host": "app-eu.wrike.com"})
row("xero", every=1, always=True, refresh_ends=60 * DAY)
row("zendesk", every=1, always=True, refresh_ends=30 * DAY, unsettled=SECOND_HAND)
row(
    "zoho", every=0, told=False, keeps={"api_domain": "https://www.zohoapis.com"},
    says={
        "dead grant": ["Rejected invalid_code"],  # with status 200, as the next
        "wrong client": ["Misconfigured invalid_client (client)", "Misconfigured invalid_client_secret (client)"],
        "throttle": ["Unavailable Access Denied, wait 600 s"] * 2,  # whoever asks sooner is locked out for longer
        "throttle, Retry-After: 7": ["Unavailable Access Denied, wait 600 s"] * 2,
    },
)  # fmt: skip
row(
    "zoom", every=1, always=True, refresh_ends=90 * DAY, keeps={"api_url": "https://api.zoom.us"},
    says={
        "dead grant": ["Rejected invalid_request", "Rejected invalid_request", *["Rejected invalid_grant"] * 2],
        "server error": [*STANDARD["server error"], "Unavailable invalid_request"],  # without its reason it is no end
    },
)  # fmt: skip
row(
    "zoom-server", sandbox="zoom", every=0, told=False, keeps={"api_url": "https://api.zoom.us"},
    unsettled="there is no refresh token that could be invalid: these are the other kind of app's words",
    says={
        "dead grant": ["Unavailable invalid_request"] * 2 + ["Rejected invalid_grant"] * 2,
        "server error": [*STANDARD["server error"], "Unavailable invalid_request"],
    },
)  # fmt: skip

# What a client signs. A refused signature is the client's trouble, whatever code it comes with: no user is to blame.
row(
    "google-service-account", every=0, told=False, unsettled=SECOND_HAND,
    says={"dead grant": STANDARD["dead grant"], "wrong client": ["Misconfigured invalid_grant (client)"] * 3},
)  # fmt: skip
row(
    "google-delegation", every=0, told=False, unsettled=SECOND_HAND,
    says={"dead grant": STANDARD["dead grant"], "wrong client": ["Misconfigured invalid_grant (client)"] * 3},
)  # fmt: skip
row(
    "salesforce-jwt", every=0, told=False, lives=timedelta(hours=1), unsettled=SECOND_HAND,
    keeps={
        "instance_url": "https://example.my.salesforce.com",
        "id": "https://login.salesforce.com/id/00D000000000000EAA/005000000000000AAA",
    },
    says={
        "dead grant": ["Rejected invalid_grant", "Rejected invalid_app_access"],
        "wrong client": [
            *["Misconfigured invalid_grant (client)"] * 2, "Misconfigured invalid_client_id (client)",
        ],
    },
)  # fmt: skip
row(
    "docusign-jwt", every=0, told=False, unsettled=SECOND_HAND,
    says={
        "dead grant": ["Rejected invalid_grant", "Rejected consent_required"],
        "wrong client": ["Misconfigured invalid_grant (client)"] * 3,
    },
)  # fmt: skip
row(
    "box-jwt", every=0, told=False, unsettled=UNSHOWN,
    says={
        "dead grant": STANDARD["dead grant"],
        "wrong client": ["Misconfigured invalid_client (client)", *["Misconfigured invalid_grant (client)"] * 5],
    },
)  # fmt: skip
row(
    "github-app", every=0, told=False, unsettled=SECOND_HAND, keeps={"repository_selection": "selected"},
    says={
        "dead grant": ["Rejected Not Found"],
        "wrong client": ["Misconfigured http_401 (client)"] * 6,
        "throttle": ["Unavailable http_403"],
        "throttle, Retry-After: 7": ["Unavailable http_403, wait 7 s"],
        "server error": ["Unavailable http_500, in doubt"],
        "outage": ["Unavailable http_503, in doubt"],
    },
)  # fmt: skip
ROWS |= rows_commerce.ROWS | rows_social.ROWS | rows_devices.ROWS | rows_platforms.ROWS
