"""The settings: what the operator wrote, checked as a whole, in plain dataclasses that the rest can rely on.

Every problem is reported at once, named by its key; nothing starts before they are mended (exit 78).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import PlainValidator

from daemon.domain.provider import Provider
from daemon.domain.secret import Secret
from daemon.runtime.document import Document, config_path, read_document
from daemon.runtime.exposure import exposed_secrets
from daemon.runtime.fields import (
    STRICT,
    Duration,
    Flag,
    Span,
    Text,
    checked,
    did_you_mean,
    one_of,
    told,
    whole,
)
from daemon.runtime.problem import Findings, Problem, SettingsInvalid
from daemon.runtime.provider_settings import read_providers
from daemon.runtime.secret_source import (
    EMBEDDED,
    BearerToken,
    Key,
    KeyId,
    StoreUri,
    Surroundings,
    collection_name,
    database_name,
    is_loopback_host,
    world_readable,
)

__all__ = ["Problem", "Settings", "SettingsInvalid", "config_path", "load"]

LEASE_MARGIN = timedelta(seconds=20)  # beside two requests: claiming, keeping and recording


class LogFormat(StrEnum):
    JSON = "json"
    CONSOLE = "console"
    AUTO = "auto"  # console on a terminal


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
