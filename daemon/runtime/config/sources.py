"""The configuration as written: the TOML file, and the environment over it. Nothing is validated here.

The environment takes precedence over an env file. If the environment sets the configuration, no file is
needed.
"""

import io
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream

from daemon.adapters.trusted_files import Untrusted, read_trusted, trust
from daemon.runtime.config.environment import Names, is_configuration, read_overrides, variable_for
from daemon.runtime.config.problems import Findings, Problem, SettingsInvalid
from daemon.runtime.config.providers.shipped_tables import shipped_tables

SYSTEM_CONFIG = Path("/etc/refreshd/config.toml")
LOCAL_CONFIG = Path("config.toml")
_NO_FILE = (
    "Specify a file with --config or $REFRESHD_CONFIG (start from config.example.toml), or set everything in the environment,"
    " like REFRESHD_STORE__URI."
)
LARGEST_FILE = 16 << 20  # bytes; 1,000 providers take less than one
_BROKEN = "Look for a missing quote, bracket or '='."
_TWICE = (
    "Cannot overwrite a value",
    "Cannot declare",
    "Cannot mutate",
    "Duplicate inline table key",
)  # tomllib's words
_POSITION = re.compile(r"\s*\(at line (\d+), column \d+\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """`table` is the result; `written` is the file alone, `from_env_file` the overrides of an env file."""

    file: Path | None  # None: there is only the environment
    env_file: Path | None
    table: Mapping[str, Any] = field(repr=False)
    written: Mapping[str, Any] = field(repr=False)
    from_env_file: Mapping[str, Any] = field(repr=False)
    variables: Mapping[str, str] = field(repr=False)  # the env file's, and over them the environment's
    env_file_names: frozenset[str]  # those whose value is the env file's
    findings: Findings


def config_path(
    option: Path | None, env: Mapping[str, str], *, system: Path = SYSTEM_CONFIG, local: Path = LOCAL_CONFIG
) -> Path | None:
    """Return the path of the configuration: --config, $REFRESHD_CONFIG, the system's file if it exists,
    ./config.toml.

    None if none of these exists and variables are the configuration.
    """
    if option is not None:
        return option
    if named := env.get("REFRESHD_CONFIG"):
        return Path(named)
    if system.exists():
        return system
    return None if any(map(is_configuration, env)) and not local.exists() else local


def read_document(path: Path | None, env: Mapping[str, str], env_file: Path | None) -> Document:
    """Read the configuration. Raises SettingsInvalid if a file is missing, can't be read, or is invalid."""
    more = _env_file(env_file) if env_file is not None else {}
    variables = {**more, **env}
    file = config_path(path, variables)
    written = read_toml(file, _NO_FILE) if file is not None else {}
    names = _known_names(variables, written, file)
    overrides = read_overrides(env, "environment", names)
    from_env_file = read_overrides(
        {name: text for name, text in more.items() if name not in env}, str(env_file), names
    )
    findings = Findings(
        str(file) if file is not None else None,
        variable_for=variable_for,
        written=written,
        origins={**from_env_file.origins, **overrides.origins},
    )
    findings.problems.extend([*overrides.problems, *from_env_file.problems])
    return Document(
        file=file,
        env_file=env_file,
        table=_laid_over_each_other(overrides.table, from_env_file.table, written),
        written=written,
        from_env_file=from_env_file.table,
        variables=variables,
        env_file_names=frozenset(more.keys() - env.keys()),
        findings=findings,
    )


def _known_names(variables: Mapping[str, str], written: Mapping[str, Any], file: Path | None) -> Names:
    """Return the names that a variable can refer to: those in the file, the active key's, and those of
    definitions.
    """
    stated = _laid_over_each_other(read_overrides(variables, "", {}).table, written)
    keys, own = _table(stated, "keys"), _table(stated, "definitions").get("dir")
    files: list[Path] = []
    with suppress(OSError, ValueError):  # no path: reported where the key is checked
        files = list((base_directory(file) / own).glob("*.toml")) if isinstance(own, str) else []
    active = keys.get("active")
    return {
        ("providers",): {
            *_table(written, "providers"),
            *(name for name in _table(stated, "providers") if "-" in name),
            *shipped_tables(),
            *(found.stem for found in files),
        },
        ("keys", "ring"): {
            *_table(_table(written, "keys"), "ring"),
            *((active,) if isinstance(active, str) else ()),
        },
    }


def base_directory(file: Path | None) -> Path:
    """Return the directory that relative paths of the configuration start from: the file's, else the current
    one.
    """
    return file.absolute().parent if file is not None else Path.cwd()


def _table(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = table.get(name)
    return inner if isinstance(inner, Mapping) else {}


def _laid_over_each_other(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the layers, the first one on top. Any key is accepted here; sections are checked one by one
    later.
    """
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        merged = _merged(merged, layer)
    return merged


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `above` over `below`, table by table."""
    both = {
        key: _merged(below[key], above[key])
        for key in below.keys() & above.keys()
        if isinstance(below[key], Mapping) and isinstance(above[key], Mapping)
    }
    return {**below, **above, **both}


def read_toml(file: Path, otherwise: str) -> dict[str, Any]:
    """Return the content of `file`. Raises SettingsInvalid; `otherwise` is the remedy if the file does not
    exist.
    """
    content = _content(file, otherwise)
    try:
        return tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        position = _POSITION.search(str(error))
        line = int(position[1]) if position else content.count("\n") + 1
        twice = any(words in str(error) for words in _TWICE)
        do = "Look for a key or a section that stands twice." if twice else _BROKEN
        raise _invalid(f"{file}: line {line}", "the file is not valid TOML", do) from None
    except RecursionError:
        raise _invalid(str(file), "its lists or tables are nested too deeply", _BROKEN) from None


def operators_files(directory: Path | None, section: str, findings: Findings) -> Iterator[Path]:
    """Yield the TOML files in the directory that `section` names. Hidden files are skipped, since editors leave them
    while they work.
    """
    if directory is None:
        return
    try:
        trust(directory)
        found = sorted(directory.iterdir())
    except Untrusted as distrust:
        findings.add((section, "dir"), distrust.what, distrust.do)
        return
    except OSError as error:
        why = f"{directory} can't be read: {error.strerror}"
        findings.add((section, "dir"), why, "Create that directory, or correct the path, owner or mode.")
        return
    yield from (file for file in found if file.suffix == ".toml" and not file.name.startswith("."))


def _env_file(file: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    problems = []
    for binding in parse_stream(io.StringIO(_content(file, "Correct the path after --env-file."))):
        if binding.error or (binding.key is not None and binding.value is None):
            line = f"{file}: line {binding.original.line}"
            problems.append(Problem(where=line, what="the line is not NAME=value", do="Correct the line."))
        elif binding.key is not None:
            found[binding.key] = binding.value or ""
    if problems:
        raise SettingsInvalid(problems)
    return found


def _content(file: Path, otherwise: str) -> str:
    try:
        content = read_trusted(file, limit=LARGEST_FILE + 1).data
        if len(content) > LARGEST_FILE:
            raise _invalid(str(file), "it is larger than 16 MiB", "Correct the path.")
        return io.StringIO(content.decode(), newline=None).read()
    except Untrusted as distrust:
        raise _invalid(str(file), distrust.what, distrust.do) from None
    except FileNotFoundError:
        raise _invalid(str(file), "the file does not exist", otherwise) from None
    except OSError as error:
        why = f"it can't be read: {error.strerror}"
        raise _invalid(str(file), why, "Correct the path, or the file's owner and mode.") from None
    except UnicodeDecodeError:
        raise _invalid(str(file), "it is not UTF-8 text", "Save it as UTF-8.") from None


def _invalid(where: str, what: str, do: str) -> SettingsInvalid:
    return SettingsInvalid([Problem(where=where, what=what, do=do)])
