"""`make mutations`: break each invariant on purpose, in a copy of the tree, and see its test fail.

First the tests run as they are, and must pass: a test that fails anyway would notice nothing. Then each change is applied
alone. A test that passes nevertheless ends the run with exit code 1.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.mutations.catalogue import ROOT, Mutation, mutations

LIMIT = 300  # seconds; a broken lock may never end, which is noticed too
FAILED = 1  # pytest's exit code: some tests failed
_LEFT_OUT = shutil.ignore_patterns(
    ".*", "__pycache__", "node_modules", "var", "dist", "build", "*.egg-info"
)  # the hidden ones: .git, .venv, caches


def run(arguments: Sequence[str]) -> int:
    """Return the exit code: 0 if every chosen mutation was noticed."""
    parser = argparse.ArgumentParser(prog="make mutations", description=__doc__)
    parser.add_argument(
        "--only",
        default="",
        metavar="TEXT",
        help="those with TEXT in their rule, their file or the name of their TOML file",
    )
    only = parser.parse_args(arguments).only
    chosen = [one for one in mutations() if any(only in text for text in (one.rule, one.source, *one.files))]
    if not chosen:
        print(f"no mutation has {only!r} in its rule, its files or its source")
        return 2
    with tempfile.TemporaryDirectory(prefix="mutations-") as directory:
        tree = Path(directory, "tree")
        shutil.copytree(ROOT, tree, ignore=_LEFT_OUT)
        _compile(tree)
        _check_imports(tree)
        tests = sorted({test for one in chosen for test in one.tests})
        if (code := _tested(tree, tests, shown=True)) != 0:
            print(f"the tests don't pass without a mutation (pytest's exit code {code})")
            return 2
        missed = [one for one in chosen if not _is_noticed(tree, one)]
    print(f"{len(chosen)} mutations, {len(chosen) - len(missed)} noticed")
    return 1 if missed else 0


def _is_noticed(tree: Path, mutation: Mutation) -> bool:
    before = {name: (tree / name).read_text() for name in mutation.files}
    for name, text in mutation.applied(before).items():
        (tree / name).write_text(text)
    try:
        code = _tested(tree, mutation.tests)
    finally:
        for name, text in before.items():
            (tree / name).write_text(text)
    noticed = code in (FAILED, None)
    word = "hangs" if code is None else "noticed" if noticed else f"NOT NOTICED (exit code {code})"
    print(f"{word:8}  {mutation.files[0]}: {mutation.rule}", flush=True)
    return noticed


def _compile(tree: Path) -> None:
    """Write bytecode that is checked by the hash of its source: two changes of one second and one length look alike to the
    usual check by time.
    """
    command = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "daemon"]
    subprocess.run(command, cwd=tree, check=True)


def _check_imports(tree: Path) -> None:
    """Raise AssertionError if the copy's tests would import the daemon from elsewhere."""
    code = "import daemon; print(daemon.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tree,
        env=_environment(tree),
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()).is_relative_to(tree), found.stdout


def _tested(tree: Path, tests: Sequence[str], *, shown: bool = False) -> int | None:
    """Return pytest's exit code, or None if it took longer than LIMIT for one mutation's tests. `shown`: its output is
    printed, because a failure needs a person.
    """
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--quiet", "--exitfirst", *tests]
    process = subprocess.Popen(
        command,
        cwd=tree,
        env=_environment(tree),
        stdout=None if shown else subprocess.DEVNULL,
        stderr=None if shown else subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(LIMIT if len(tests) < 10 else None)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _environment(tree: Path) -> dict[str, str]:
    """Return the environment of a run. It writes no bytecode of a changed file."""
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
