"""What a MongoDB URI says of itself."""

import pytest

from daemon.adapters.mongo.address import address_of


@pytest.mark.parametrize(
    ("uri", "refusal"),
    [
        (
            "mongodb://me:pw@db.example.com/",
            "db.example.com rejected the credentials of me (authSource admin)",
        ),
        ("mongodb://me:pw@a:1,b:2/app", "a:1,b:2 rejected the credentials of me (authSource app)"),
        ("mongodb://me:pw@a/app?authSource=users", "a rejected the credentials of me (authSource users)"),
        ("mongodb://m%40e:pw@a/?AUTHSOURCE=users", "a rejected the credentials of m@e (authSource users)"),
        (
            "mongodb+srv://me:pw@cluster.example.com",
            "cluster.example.com rejected the credentials of me (authSource admin)",
        ),
        (
            "mongodb://a/?authMechanism=MONGODB-X509&tls=true",
            "a rejected the credentials of by certificate (authSource $external)",
        ),
        ("mongodb://a/", "a requires credentials, and the URI has none"),
    ],
)
def test_a_refused_login_names_host_user_and_database(uri, refusal):
    """As the URI has them; the password is not among them."""
    assert address_of(uri).refusal == f"MongoDB at {refusal}"


@pytest.mark.parametrize(
    ("uri", "tls", "verified"),
    [
        ("mongodb://a/", False, True),
        ("mongodb://a/?tls=true", True, True),
        ("mongodb://a/?ssl=true", True, True),
        ("mongodb+srv://a/", True, True),
        ("mongodb+srv://a/?tls=false", False, True),
        ("mongodb://a/?tls=true&tlsInsecure=true", True, False),
        ("mongodb://a/?tls=true&tlsAllowInvalidCertificates=true", True, False),
    ],
)
def test_whether_the_way_is_encrypted_is_known(uri, tls, verified):
    """By the URI's options, in any spelling, and by its scheme."""
    assert (address_of(uri).tls, address_of(uri).verified) == (tls, verified)


@pytest.mark.parametrize(
    ("hosts", "local"),
    [
        ("127.0.0.1", True),
        ("localhost:27017", True),
        ("[::1]:27017", True),
        ("%2Ftmp%2Fmongodb.sock", True),
        ("127.0.0.1:1,127.0.0.2:2", True),
        ("127.0.0.1,db.example.com", False),
        ("localhost.example.com", False),
        ("10.0.0.1", False),
    ],
)
def test_this_machine_is_known(hosts, local):
    """All of several hosts must be on it."""
    assert address_of(f"mongodb://{hosts}/").local is local


@pytest.mark.parametrize("uri", ["", "nonsense", "mongodb://", "mongodb://a:b:c@/?x", "mongodb://[::1/?=&&="])
def test_nonsense_raises_nothing(uri):
    """The driver refuses it elsewhere, in its own time."""
    assert str(address_of(uri)) in uri


@pytest.mark.parametrize(
    ("uri", "database"),
    [
        ("mongodb://a", None),
        ("mongodb://a/", None),
        ("mongodb://a/app?x=y", "app"),
        ("mongodb://a/?x=/y", None),
    ],
)
def test_the_path_is_a_database(uri, database):
    """None where there is no path."""
    assert address_of(uri).database == database
