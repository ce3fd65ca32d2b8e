"""What is particular to each source: how it proves itself, what it asks, and what it refuses."""

import json
from base64 import b64decode, b64encode

import pytest

from daemon.adapters.secrets import aws, aws_request, azure, gcp, kms, vault
from daemon.adapters.secrets.errors import SecretAway, SecretMissing, SecretUnusable
from daemon.domain.secret_reference import (
    AwsSecret,
    AzureSecret,
    GcpSecret,
    VaultSecret,
    WrappedKey,
    source_name,
)
from tests.adapters.secrets.conftest import ARN, CANARY, IMDS, KEY, METADATA, SOURCES, WRAPPED, reply

# ---------------------------------------------------------------- AWS


async def test_a_request_to_aws_is_signed_for_its_region(cloud):
    cloud.answers["/"] = reply({"SecretString": CANARY})
    await aws.read(AwsSecret(name="app", region="us-west-2"))
    ((method, _, headers, body),) = cloud.asked
    assert (method, headers["X-Amz-Target"]) == ("POST", "secretsmanager.GetSecretValue")
    assert "/us-west-2/secretsmanager/aws4_request" in headers["Authorization"]
    assert json.loads(body) == {"SecretId": "app"}


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ('{"password": "x"}', SecretMissing, "has no field client_secret"),
        ('{"client_secret": 7}', SecretUnusable, "is not text"),
        ('{"client_secret": null}', SecretUnusable, "is not text"),
        ('["client_secret"]', SecretUnusable, "is not a JSON object"),
        (CANARY, SecretUnusable, "is not a JSON object"),
        ("[" * 60_000, SecretUnusable, "is not a JSON object"),
    ],
)
async def test_a_field_that_is_not_there(cloud, text, kind, said):
    cloud.answers["/"] = reply({"SecretString": text})
    with pytest.raises(kind, match=said) as caught:
        await aws.read(AwsSecret(name="app", field="client_secret"))
    assert CANARY not in str(caught.value)


async def test_a_field_is_read(cloud):
    cloud.answers["/"] = reply({"SecretString": json.dumps({"client_secret": CANARY, "user": "x"})})
    assert await aws.read(AwsSecret(name="app", field="client_secret")) == CANARY


async def test_a_binary_secret_is_unusable(cloud):
    cloud.answers["/"] = reply({"SecretBinary": KEY})
    with pytest.raises(SecretUnusable, match="is binary"):
        await aws.read(AwsSecret(name="app"))


async def test_without_credentials_or_a_region_nothing_is_asked(cloud, monkeypatch):
    from botocore.session import Session

    class Anonymous(Session):
        def get_credentials(self, *given, **named):
            return None

    with monkeypatch.context() as patched:
        patched.setattr(aws_request, "_session", Anonymous)
        with pytest.raises(SecretAway, match="no credentials of AWS"):
            await aws.read(AwsSecret(name="app"))
    monkeypatch.undo()
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    aws_request.forget_credentials()
    with pytest.raises(SecretAway, match="no region of AWS"):
        await aws.read(AwsSecret(name="app"))
    assert cloud.asked == []
    aws_request.forget_credentials()


async def test_credentials_that_never_come_hold_up_nothing(cloud, monkeypatch):
    """A `credential_process` may hang. The thread that waits for it is left behind."""
    from datetime import timedelta
    from threading import Event

    monkeypatch.setattr(aws_request, "SIGNED_WITHIN", timedelta(milliseconds=50))
    for_good = Event()
    monkeypatch.setattr(aws_request, "_signed", lambda *given: for_good.wait())
    with pytest.raises(SecretAway, match="did not come within"):
        await aws.read(AwsSecret(name="app"))
    for_good.set()


# ---------------------------------------------------------------- AWS KMS


async def test_a_key_is_unwrapped_for_its_id_and_installation(cloud):
    cloud.answers["/"] = reply({"KeyId": ARN, "Plaintext": KEY})
    assert await kms.read(WRAPPED) == KEY
    ((_, _, headers, body),) = cloud.asked
    assert headers["X-Amz-Target"] == "TrentService.Decrypt"
    assert "/eu-central-1/kms/" in headers["Authorization"]
    assert json.loads(body) == {
        "CiphertextBlob": WRAPPED.wrapped,
        "KeyId": ARN,
        "EncryptionContext": {"refreshd:installation": "prod", "refreshd:key_id": "main"},
    }


@pytest.mark.parametrize("plain", [b"", bytes(31), bytes(33), b"x" * 4096])
async def test_only_32_bytes_are_a_key(cloud, plain):
    cloud.answers["/"] = reply({"KeyId": ARN, "Plaintext": b64encode(plain).decode()})
    with pytest.raises(SecretUnusable, match="not a key of 32 bytes"):
        await kms.read(WRAPPED)


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("DisabledException", SecretAway, "is disabled"),
        ("KMSInvalidStateException", SecretAway, "is not in use"),
        ("KeyUnavailableException", SecretAway, "is not available"),
        (
            "InvalidCiphertextException",
            SecretUnusable,
            "another key id than 'main', or for another installation than 'prod'",
        ),
        ("IncorrectKeyException", SecretUnusable, "another KMS key"),
    ],
)
async def test_kms_refuses(cloud, code, kind, said):
    cloud.answers["/"] = reply({"__type": code, "message": CANARY}, 400)
    with pytest.raises(kind, match=said) as caught:
        await kms.read(WRAPPED)
    assert CANARY not in str(caught.value)
    assert WRAPPED.wrapped not in str(caught.value)


@pytest.mark.parametrize("wrapped", ["", "%%%", "abc", "Zm9v\n"])
async def test_what_is_not_base64_is_not_sent(cloud, wrapped):
    with pytest.raises(SecretUnusable, match="not base64"):
        await kms.read(WrappedKey(kms_key=ARN, wrapped=wrapped, key_id="main", installation="prod"))
    assert cloud.asked == []


@pytest.mark.parametrize("answer", [{}, {"CiphertextBlob": KEY}, {"CiphertextBlob": 7, "KeyId": ARN}, {"CiphertextBlob": KEY, "KeyId": 'x" }'}])  # fmt: skip
async def test_an_odd_answer_makes_no_line(cloud, answer):
    cloud.answers["/"] = reply(answer)
    with pytest.raises(SecretUnusable, match="another form"):
        await kms.wrap(b64decode(KEY), kms_key=ARN, key_id="main", installation="prod")


async def test_an_alias_becomes_the_key_that_it_leads_to(cloud):
    cloud.answers["/"] = reply({"CiphertextBlob": "bmV3", "KeyId": ARN})
    alias = ARN.replace("key/", "alias/")
    made = await kms.wrap(b64decode(KEY), kms_key=alias, key_id="main", installation="prod")
    assert made == WrappedKey(kms_key=ARN, wrapped="bmV3", key_id="main", installation="prod")


def test_a_wrapped_key_does_not_print_its_text():
    assert WRAPPED.wrapped not in repr(WRAPPED)
    assert source_name(WRAPPED) == f"kms {ARN}"


# ---------------------------------------------------------------- Vault

XERO = VaultSecret(mount="secret", path="apps/xero", field="client_secret")
VAULT = SOURCES["vault"]


async def test_vault_is_asked_with_token_and_namespace(cloud, monkeypatch):
    monkeypatch.setenv("VAULT_NAMESPACE", "team/a")
    cloud.answers[VAULT.path] = reply(VAULT.answer(CANARY))
    await vault.read(XERO)
    headers = cloud.asked[0][2]
    assert headers["X-Vault-Token"] == "canary-vault-token"
    assert (headers["X-Vault-Namespace"], headers["X-Vault-Request"]) == ("team/a", "true")


async def test_vault_has_the_secret_without_the_field(cloud):
    cloud.answers[VAULT.path] = reply({"data": {"data": {"other": CANARY}, "metadata": {}}})
    with pytest.raises(SecretMissing, match="has no field client_secret"):
        await vault.read(XERO)


async def test_a_store_of_version_1_is_named_as_that(cloud):
    cloud.answers[VAULT.path] = reply({"data": {"client_secret": CANARY}})
    with pytest.raises(SecretUnusable, match="version 2"):
        await vault.read(XERO)


async def test_a_token_file_is_read_each_time(cloud, monkeypatch, tmp_path):
    """An agent keeps it fresh."""
    cloud.answers[VAULT.path] = reply(VAULT.answer(CANARY))
    file = tmp_path / "token"
    monkeypatch.setenv("VAULT_TOKEN_FILE", str(file))
    for text in ("first\n", "second"):
        file.write_text(text)
        await vault.read(XERO)
    assert [headers["X-Vault-Token"] for _, _, headers, _ in cloud.asked] == ["first", "second"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b"\xff\xfe", "not a text file"),
        (b"x" * 70_000, "too large"),
    ],
)
async def test_a_token_file_that_holds_no_token(cloud, monkeypatch, tmp_path, content, said):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("VAULT_TOKEN_FILE", str(file))
    with pytest.raises(SecretAway, match=said):
        await vault.read(XERO)


async def test_a_token_file_that_others_can_change_is_refused(cloud, monkeypatch, tmp_path):
    file = tmp_path / "token"
    file.write_text("x")
    file.chmod(0o666)
    monkeypatch.setenv("VAULT_TOKEN_FILE", str(file))
    with pytest.raises(SecretAway, match="VAULT_TOKEN_FILE"):
        await vault.read(XERO)
    assert cloud.asked == []


LOGIN = {"auth": {"client_token": "of-a-login", "lease_duration": 1200, "renewable": True}}


@pytest.mark.parametrize(
    ("variables", "path", "sent"),
    [
        ({"VAULT_ROLE_ID": "r", "VAULT_SECRET_ID": "s"}, "/v1/auth/approle/login", {"role_id": "r", "secret_id": "s"}),
        ({"VAULT_ROLE_ID": "r", "VAULT_SECRET_ID_FILE": "{file}"}, "/v1/auth/approle/login", {"role_id": "r", "secret_id": "from-file"}),
        ({"VAULT_ROLE_ID": "r", "VAULT_APPROLE_MOUNT": "team/x"}, "/v1/auth/team/x/login", {"role_id": "r", "secret_id": ""}),
        ({"VAULT_KUBERNETES_ROLE": "k", "VAULT_KUBERNETES_TOKEN_FILE": "{file}"}, "/v1/auth/kubernetes/login", {"role": "k", "jwt": "from-file"}),
    ],
)  # fmt: skip
async def test_logins_of_vault(cloud, monkeypatch, tmp_path, variables, path, sent):
    """One login serves two reads. A token that Vault refuses is replaced once."""
    (tmp_path / "file").write_text("from-file\n")
    monkeypatch.delenv("VAULT_TOKEN")
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(file=tmp_path / "file"))
    cloud.answers |= {path: reply(LOGIN), VAULT.path: reply(VAULT.answer(CANARY))}
    assert [await vault.read(XERO), await vault.read(XERO)] == [CANARY, CANARY]
    assert cloud.paths() == [path, VAULT.path, VAULT.path]
    assert json.loads(cloud.asked[0][3]) == sent
    assert cloud.asked[1][2]["X-Vault-Token"] == "of-a-login"
    cloud.answers[VAULT.path] = reply({"errors": [CANARY]}, 403)
    with pytest.raises(SecretAway, match="denies access"):
        await vault.read(XERO)
    assert cloud.paths()[3:] == [VAULT.path, path, VAULT.path]


@pytest.mark.parametrize("answer", [reply({"errors": [CANARY]}, 400), reply({"errors": [CANARY]}, 403), reply({"auth": None}), reply({"auth": {"client_token": 7}})])  # fmt: skip
async def test_a_login_that_vault_refuses(cloud, monkeypatch, answer):
    monkeypatch.delenv("VAULT_TOKEN")
    monkeypatch.setenv("VAULT_ROLE_ID", "r")
    cloud.answers["/v1/auth/approle/login"] = answer
    with pytest.raises((SecretAway, SecretUnusable)) as caught:
        await vault.read(XERO)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("gone", "said"), [("VAULT_ADDR", "VAULT_ADDR is not set"), ("VAULT_TOKEN", "no identity for Vault")]
)
async def test_vault_needs_an_address_and_an_identity(cloud, monkeypatch, gone, said):
    monkeypatch.delenv(gone)
    with pytest.raises(SecretAway, match=said):
        await vault.read(XERO)


# ---------------------------------------------------------------- Google Cloud

GCP = SOURCES["gcp"]


async def test_google_is_asked_for_the_latest_version_or_the_named_one(cloud):
    cloud.answers |= {
        METADATA: reply({"access_token": "of-metadata", "expires_in": 3599}),
        "/v1/projects/p/secrets/s/versions/3:access": reply(GCP.answer(CANARY)),
    }
    assert await gcp.read(GcpSecret(name="projects/p/secrets/s/versions/3")) == CANARY
    assert cloud.asked[0][2]["Metadata-Flavor"] == "Google"
    assert cloud.asked[1][2]["Authorization"] == "Bearer of-metadata"


def test_a_regional_secret_has_its_own_endpoint(monkeypatch):
    monkeypatch.delenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER", raising=False)
    regional = gcp._endpoint("projects/p/locations/europe-west3/secrets/s")
    assert regional == "https://secretmanager.europe-west3.rep.googleapis.com"
    assert gcp._endpoint("projects/p/secrets/s") == "https://secretmanager.googleapis.com"


@pytest.mark.parametrize(
    ("data", "said"), [(b64encode(b"\xff\x00\xfe").decode(), "is binary"), ("%%%", "other than base64")]
)
async def test_a_payload_of_google_that_is_no_text(cloud, data, said):
    cloud.answers[GCP.path] = reply({"payload": {"data": data}})
    with pytest.raises(SecretUnusable, match=said):
        await GCP.read(cloud)


async def test_a_disabled_version_of_google(cloud):
    cloud.answers[GCP.path] = reply({"error": {"status": "FAILED_PRECONDITION", "message": CANARY}}, 400)
    with pytest.raises(SecretAway, match="disabled or destroyed"):
        await GCP.read(cloud)


@pytest.mark.parametrize("impersonated", [False, True])
async def test_workload_identity_federation(cloud, monkeypatch, tmp_path, impersonated):
    (tmp_path / "subject").write_text("of-the-platform\n")
    settings = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{cloud.url}/v1/token",
        "credential_source": {"file": str(tmp_path / "subject")},
    }
    if impersonated:
        settings["service_account_impersonation_url"] = f"{cloud.url}/v1/sa:generateAccessToken"
    (tmp_path / "credentials.json").write_text(json.dumps(settings))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "credentials.json"))
    cloud.answers |= {
        "/v1/token": reply({"access_token": "federated", "expires_in": 3600}),
        "/v1/sa:generateAccessToken": reply(
            {"accessToken": "of-account", "expireTime": "2026-11-29T09:00:00Z"}
        ),
        GCP.path: reply(GCP.answer(CANARY)),
    }
    assert await gcp.read(GcpSecret(name="projects/p/secrets/xero")) == CANARY
    assert b"subject_token=of-the-platform" in cloud.asked[0][3]
    assert cloud.asked[-1][2]["Authorization"] == f"Bearer {'of-account' if impersonated else 'federated'}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"type": "service_account", "private_key": "canary"}', "workload identity instead of"),
        ('{"type": "external_account"}', "does not name a text file"),
        ('{"type": "external_account", "audience": "a", "subject_token_type": "b", "token_url": "c", "credential_source": {"environment_id": "aws1"}}', "does not name a text file"),
        ("[]", "not a JSON object"),
        ("{", "not a JSON object"),
    ],
)  # fmt: skip
async def test_credentials_of_google_that_are_not_supported(cloud, monkeypatch, tmp_path, content, said):
    (tmp_path / "credentials.json").write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "credentials.json"))
    with pytest.raises(SecretAway, match=said) as caught:
        await gcp.read(GcpSecret(name="projects/p/secrets/xero"))
    assert "canary" not in str(caught.value)
    assert cloud.asked == []


# ---------------------------------------------------------------- Azure

AZURE = SOURCES["azure"]


async def test_azure_is_asked_with_a_token_of_the_machine(cloud, monkeypatch):
    monkeypatch.setenv("AZURE_CLIENT_ID", "of-mine")
    cloud.answers[AZURE.path] = reply(AZURE.answer(CANARY))
    await AZURE.read(cloud)
    (_, login, headers, _), (_, path, asked, _) = cloud.asked
    assert login.startswith(f"{IMDS}?")
    assert "client_id=of-mine" in login
    assert "api-version=2018-02-01" in login
    assert headers["Metadata"] == "true"
    assert (path, asked["Authorization"]) == ("/secrets/xero?api-version=7.4", "Bearer canary-access")


@pytest.mark.parametrize(
    ("variables", "path", "sent"),
    [
        ({"AZURE_FEDERATED_TOKEN_FILE": "{file}", "AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c"}, "/t/oauth2/v2.0/token", b"client_assertion=from-file"),
        ({"AZURE_CLIENT_SECRET": "s", "AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c"}, "/t/oauth2/v2.0/token", b"client_secret=s"),
        ({"IDENTITY_ENDPOINT": "{url}/msi/token", "IDENTITY_HEADER": "h"}, "/msi/token", b""),
    ],
)  # fmt: skip
async def test_logins_of_azure(cloud, monkeypatch, tmp_path, variables, path, sent):
    (tmp_path / "file").write_text("from-file")
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", cloud.url)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(file=tmp_path / "file", url=cloud.url))
    cloud.answers |= {
        path: reply({"access_token": "issued", "expires_in": 3599}),
        AZURE.path: reply(AZURE.answer(CANARY)),
    }
    assert await azure.read(AzureSecret(url=f"{cloud.url}{AZURE.path}")) == CANARY
    assert cloud.paths() == [path, AZURE.path]
    assert sent in cloud.asked[0][3]


async def test_an_application_of_azure_needs_its_tenant(cloud, monkeypatch):
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "s")
    with pytest.raises(SecretAway, match="AZURE_TENANT_ID"):
        await azure.read(AzureSecret(url=f"{cloud.url}{AZURE.path}"))


@pytest.mark.parametrize(
    "host", ["evil.example", "vault.azure.net.evil.example", "xvault.azure.net", "169.254.169.254"]
)
async def test_a_token_goes_to_key_vaults_only(cloud, host):
    with pytest.raises(SecretAway, match="is not a key vault of Azure"):
        await azure.read(AzureSecret(url=f"https://{host}/secrets/x"))
    assert cloud.asked == []


def test_clouds_of_azure_have_their_own_domain():
    assert azure._resource("https://mine.vault.azure.cn/secrets/x") == "https://vault.azure.cn"
    assert (
        azure._resource("https://mine.vault.usgovcloudapi.net/secrets/x") == "https://vault.usgovcloudapi.net"
    )


async def test_a_certificate_is_no_secret(cloud):
    cloud.answers[AZURE.path] = reply({"value": KEY, "contentType": "application/x-pkcs12"})
    with pytest.raises(SecretUnusable, match="is a certificate"):
        await AZURE.read(cloud)
