"""How the server that nobody here wrote is set up: as strict about refresh tokens as it can be."""

from datetime import timedelta
from pathlib import Path
from typing import Any

DATABASE = "server.sqlite3"
ANSWERS = "answers.jsonl"


LOGIN = """<form method="post">{% csrf_token %}{{ form.as_p }}<button type="submit">Sign in</button></form>"""
BASE = "{% block content %}{% endblock %}"
_AUTH = "django.contrib.auth.context_processors.auth"


def page_settings() -> dict[str, Any]:
    """Return what the server's consent pages need beside `server_settings`: sessions, a sign-in page, templates."""
    templates = {"registration/login.html": LOGIN, "oauth2_provider/base.html": BASE}
    loaders = [
        ("django.template.loaders.locmem.Loader", templates),
        "django.template.loaders.app_directories.Loader",
    ]
    return {
        "INSTALLED_APPS": [
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "oauth2_provider",
        ],
        "MIDDLEWARE": [
            "answers.WrittenDown",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        "TEMPLATES": [
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {"loaders": loaders, "context_processors": [_AUTH]},
            }
        ],
        "LOGIN_URL": "/accounts/login/",
        "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],  # fast
    }


def server_settings(directory: Path, *, lifetime: timedelta) -> dict[str, Any]:
    """The Django settings. Access tokens live for `lifetime`; a refresh token works once, and reuse ends its family."""
    return {
        "SECRET_KEY": "only for tests",
        "ALLOWED_HOSTS": ["127.0.0.1"],
        "DATABASES": {"default": _database(directory / DATABASE)},
        "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
        "INSTALLED_APPS": ["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"],
        "LOGGING_CONFIG": None,
        "MIDDLEWARE": [
            "answers.WrittenDown",
            "django.middleware.common.CommonMiddleware",  # Content-Length, so that connections stay open
        ],
        "OAUTH2_PROVIDER": {
            "ACCESS_TOKEN_EXPIRE_SECONDS": int(lifetime.total_seconds()),
            "ROTATE_REFRESH_TOKEN": True,
            "REFRESH_TOKEN_REUSE_PROTECTION": True,
            "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": 0,
            "DEVICE_FLOW_INTERVAL": 1,
            "OAUTH2_VALIDATOR_CLASS": "validator.DeviceValidator",
        },
        "ROOT_URLCONF": "addresses",
        "USE_TZ": True,
        "ANSWERS_FILE": directory / ANSWERS,
    }


def _database(file: Path) -> dict[str, Any]:
    """SQLite for several threads: who writes says so at the beginning, and who waits does not fail."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": file,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 60,
            "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL",
        },
    }
