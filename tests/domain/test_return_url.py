"""A browser is sent to listed addresses only, however an address is spelled."""

import pytest

from daemon.domain.return_url import fault_of_return_url, origin_of, with_parameters

LISTED = ("https://app.example.com/connected", "https://app.example.com/back/", "http://localhost:3000/")


@pytest.mark.parametrize(
    "url",
    [
        "https://app.example.com/connected",
        "https://app.example.com/back/",
        "https://app.example.com/back/me",
        "https://app.example.com/back/me/there?tab=2&x=%2F..%2F",
        "https://app.example.com/back/a%20b",
        "http://localhost:3000/x",
    ],
)
def test_listed_addresses_are_allowed(url: str):
    assert fault_of_return_url(url, LISTED) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/connected",
        "//evil.example/",
        "https:app.example.com/connected",
        "https:/app.example.com/connected",
        "https:///app.example.com/connected",
        "https://evil.example/",
        "https://evil.example/https://app.example.com/back/",
        "https://app.example.com",
        "https://app.example.com/",
        "https://app.example.com/connected/more",
        "https://app.example.com/connected?x=1",
        "https://app.example.com/connected#code",
        "https://app.example.com/back/#x",
        "https://app.example.com/backwards",
        "https://app.example.com.evil.example/back/",
        "https://app.example.com@evil.example/back/",
        "https://app.example.com:443@evil.example/back/",
        "https://me@app.example.com/back/",
        "https://app.example.com:444/back/",
        "https://app.example.com\\@evil.example/back/",
        "https://app.example.com/back/\\evil.example",
        "https://app.example.com/back/..\\x",
        "https://app.example.com/back/../admin",
        "https://app.example.com/back/%2e%2e/admin",
        "https://app.example.com/back/.%2E/admin",
        "https://app.example.com/back/%252e%252e/admin",
        "https://app.example.com/back/%25252e%25252e/admin",
        "https://app.example.com/back/..%2fadmin",
        "https://app.example.com/back/..%5cadmin",
        "https://app.example.com/back/x%2f..%2fadmin",
        "https://app.example.com/back/..;/admin",
        "https://app.example.com/back/./x",
        "https://app.example.com/back/%00",
        "https://app.example.com/back/%zz",
        "https://app.example.com/back/%",
        "https://app.example.com/back/ x",
        "https://app.example.com/back/\tx",
        "https://app.example.com/back/\r\nSet-Cookie: a=b",
        "\thttps://app.example.com/back/",
        "https://app.example.com/back/ä",
        "https://app.example.com/back/\u202ex",
        "HTTPS://app.example.com/back/",
        "https://APP.example.com/back/",
        "http://app.example.com/back/",
        "javascript://app.example.com/back/%0aalert(1)",
        "https://app.example.com/back/?connect=mine",
        "https://app.example.com/back/?a=1&connect_code=mine",
        "https://app.example.com/back/?%63onnect=mine",
        "https://app.example.com/back/?error=mine",
        "https://app.example.com/back/?a=%ff",
        "https://app.example.com/back/" + "x" * 2048,
    ],
)
def test_everything_else_is_refused(url: str):
    assert fault_of_return_url(url, LISTED) is not None


def test_without_a_list_nothing_is_allowed():
    assert fault_of_return_url("https://app.example.com/connected", ()) == "is not in access.return_urls"


def test_a_listed_query_stands_for_itself_alone():
    listed = ("https://app.example.com/back?to=/",)
    assert fault_of_return_url("https://app.example.com/back?to=/", listed) is None
    assert fault_of_return_url("https://app.example.com/back?to=/evil", listed) is not None


def test_parameters_are_added_encoded():
    assert with_parameters("https://a.example/", {"connect": "x.y", "error": "a&b"}) == (
        "https://a.example/?connect=x.y&error=a%26b"
    )
    assert with_parameters("https://a.example/?t=1", {"connect": "x"}) == "https://a.example/?t=1&connect=x"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://A.example/x?y", "https://a.example"),
        ("https://a.example:443/", "https://a.example"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[::1]:8080/x", "http://[::1]:8080"),
    ],
)
def test_an_origin_is_spelled_as_browsers_spell_it(url: str, origin: str):
    assert origin_of(url) == origin
