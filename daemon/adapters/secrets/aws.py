"""Secrets of AWS: Secrets Manager and the parameters of Systems Manager.

Required rights: `secretsmanager:GetSecretValue` or `ssm:GetParameter`, and `kms:Decrypt` for a key of your own.
"""

import json

from daemon.adapters.secrets.aws_request import call
from daemon.adapters.secrets.errors import SecretMissing, SecretUnusable
from daemon.adapters.secrets.http import text_of
from daemon.domain.secret_reference import AwsParameter, AwsSecret

_MANAGER = "AWS Secrets Manager"
_PARAMETERS = "AWS Systems Manager"


async def read(reference: AwsSecret | AwsParameter) -> str:
    """Return the secret. Raises SecretMissing, SecretAway, SecretUnusable."""
    if isinstance(reference, AwsParameter):
        return await _parameter(reference)
    found = await call(
        _MANAGER,
        "secretsmanager",
        "secretsmanager.GetSecretValue",
        {"SecretId": reference.name},
        region=reference.region,
        missing={"ResourceNotFoundException": f"{_MANAGER} has no secret {reference.name}"},
    )
    if "SecretString" not in found and "SecretBinary" in found:
        raise SecretUnusable(f"{_MANAGER} has answered, but the secret {reference.name} is binary")
    text = text_of(_MANAGER, found.get("SecretString"))
    return text if reference.field is None else _field(text, reference.name, reference.field)


async def _parameter(reference: AwsParameter) -> str:
    absent = f"{_PARAMETERS} has no parameter {reference.name}"
    found = await call(
        _PARAMETERS,
        "ssm",
        "AmazonSSM.GetParameter",
        {"Name": reference.name, "WithDecryption": True},
        region=reference.region,
        missing={"ParameterNotFound": absent, "ParameterVersionNotFound": absent},
    )
    parameter = found.get("Parameter")
    return text_of(_PARAMETERS, parameter.get("Value") if isinstance(parameter, dict) else None)


def _field(text: str, name: str, field: str) -> str:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise SecretUnusable(f"the secret {name} is not a JSON object, so it has no field {field}")
    if field not in table:
        raise SecretMissing(f"the secret {name} has no field {field}")
    if not isinstance(table[field], str):
        raise SecretUnusable(f"the field {field} of the secret {name} is not text")
    return str(table[field])
