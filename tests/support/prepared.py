"""Processes of refreshd that start in a tenth of the time: copies of one that has imported the program.

    prepared.install()  # from here on, subprocess and asyncio start `python -m daemon ...` in this way

Python takes about a second of CPU to import refreshd, and the tests start it several hundred times. One process for each
session imports it, and each start is a copy of that process. A copy has its own process id and is a child of the test's
process. It has the descriptors, environment, directory and session that the test gives it, and runs the same `main`.

Only the start of the interpreter differs. A test of that start uses `REAL`, `python -c` or a script. Python also starts
as usual if the test changes a variable that the interpreter, its libraries or the loader read at their start.
"""

import array
import ctypes
import inspect
import io
import json
import os
import platform
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from daemon.runtime.confinement import forgetting

REAL = subprocess.Popen
_SIGNATURE = inspect.signature(REAL._execute_child)  # type: ignore[attr-defined]
_ROOT = Path(__file__).parents[2]
_SCRIPTS = (str(_ROOT / "tests" / "faults" / "crashing.py"),)  # programs around the same `main`
_READ_AT_START = (
    *("PYTHON", "LD_", "LC_", "LANG", "TZ", "GLIBC_", "MALLOC_", "FAKETIME", "OPENSSL_", "SSL_"),
    *("SSLKEYLOGFILE", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM", "TTY_", "_TYPER", "PYDANTIC"),
)
_SYS_CLONE, _CLONE_PARENT = 56, 0x8000  # of x86_64; linux/sched.h

# libfaketime, for one, works from the start of a process.
POSSIBLE = sys.platform == "linux" and platform.machine() == "x86_64" and "LD_PRELOAD" not in os.environ


def install() -> None:
    """Let this process start refreshd as a copy, if that is possible."""
    if POSSIBLE:
        subprocess.Popen = _Popen  # type: ignore[misc]


class _Popen(REAL):  # type: ignore[type-arg]
    """`subprocess.Popen`, whose child is a copy where that is the same."""

    def _execute_child(self, *given: Any) -> None:
        asked = _SIGNATURE.bind(self, *given).arguments
        environment = dict(os.environ if asked["env"] is None else asked["env"])
        if not _fits(asked, environment):
            super()._execute_child(*given)  # type: ignore[misc]
            return
        pipes = [asked["p2cread"], asked["c2pwrite"], asked["errwrite"]]
        if "serve" in asked["args"]:
            environment = forgetting(environment) or environment  # as the command would start itself again
        order = {
            "args": [str(word) for word in asked["args"]],
            "cwd": str(Path(asked["cwd"] or ".").resolve()),
            "environment": environment,
            "session": bool(asked["start_new_session"]),
        }
        self.pid = _source(_read_at_start(environment)).start(
            order, [own if own != -1 else at for at, own in enumerate(pipes)]
        )
        self._child_created = True
        ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(asked[end] for end in ends))  # type: ignore[attr-defined]


def _fits(asked: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    args = asked["args"]
    if isinstance(args, str | bytes | os.PathLike) or asked["shell"]:
        return False
    words = [str(word) for word in args]
    known = words[1:3] == ["-m", "daemon"] or words[1:2] in ([script] for script in _SCRIPTS)
    plain = not (asked["preexec_fn"] or asked["pass_fds"]) and asked["restore_signals"] and asked["close_fds"]
    as_we_are = (asked["gid"], asked["gids"], asked["uid"], asked["umask"], asked["process_group"]) == (
        *(None, None, None),
        *(-1, -1),
    )
    same = _read_at_start(environment) == _read_at_start(os.environ)
    return bool(words[0] == sys.executable and known and plain and as_we_are and same)


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)}


# ---------------------------------------------------------------- the process that is copied, as the tests see it


class _Source:
    """It ends when this process does: then its socket has no other end."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._lock = Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        inherited = {name: text for name, text in os.environ.items() if not name.startswith("REFRESHD_")}
        modules = [str(_ROOT), *filter(None, [environment.get("PYTHONPATH")])]
        self._process = REAL(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**inherited, **environment, "PYTHONPATH": os.pathsep.join(modules)},
        )
        theirs.close()

    def start(self, order: Mapping[str, object], descriptors: list[int]) -> int:
        text = json.dumps(order).encode("utf-8", "surrogatepass")
        with self._lock, os.fdopen(os.memfd_create("order"), "wb") as file:
            file.write(text)
            file.flush()
            passed = array.array("i", [*descriptors, file.fileno()])
            self._socket.sendmsg([b"start"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
            if not (answer := self._socket.recv(32)):
                raise OSError("the process that is copied has ended")
            return int(answer)


_sources: dict[tuple[tuple[str, str], ...], _Source] = {}
_making = Lock()


def _source(environment: Mapping[str, str]) -> _Source:
    """The process that was started in this environment. There are two: one more for the access service."""
    name = tuple(sorted(environment.items()))
    with _making:
        if name not in _sources:
            _sources[name] = _Source(environment)
        return _sources[name]


# ---------------------------------------------------------------- the process that is copied, as it sees itself


def _clone() -> int:
    """Like `os.fork`, but the child is a child of this process's parent, which can wait for it."""
    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    pid = int(ctypes.PyDLL(None).syscall(_SYS_CLONE, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0))
    if pid == 0:
        python.PyOS_AfterFork_Child()
    else:
        python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError("clone")
    return pid


def _serve(own: socket.socket) -> dict[str, Any] | None:
    """Make a copy for each order. Returns in the copies, with the order; in this process, when there are no more."""
    while True:
        size = array.array("i").itemsize
        data, ancillary, _, _ = own.recvmsg(16, socket.CMSG_SPACE(4 * size))
        if not data:
            return None
        descriptors = array.array("i", ancillary[0][2])
        if pid := _clone():
            for one in descriptors:
                os.close(one)
            own.send(str(pid).encode())
            continue
        *standard, file = descriptors
        for at, one in enumerate(standard):
            os.dup2(one, at)  # each is above 2: those are open here
        with open(file, "rb", closefd=False) as text:
            text.seek(0)
            order: dict[str, Any] = json.loads(text.read().decode("utf-8", "surrogatepass"))
        descriptors.append(own.detach())
        os.closerange(3, max(descriptors) + 1)
        return order


def _become(order: Mapping[str, Any]) -> None:
    """Run the program of `order` as if this process had just started."""
    if order["session"]:
        os.setsid()
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    for name, at, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        former = getattr(sys, name)
        stream = io.TextIOWrapper(
            open(at, mode + "b", closefd=False),  # noqa: SIM115  as long as the process
            encoding=former.encoding,
            errors=former.errors,
            line_buffering=name == "stderr" or os.isatty(at),
        )
        stream.mode = mode  # type: ignore[attr-defined]
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    words = order["args"]
    sys.orig_argv[:] = words
    is_module = words[1] == "-m"
    sys.argv[:] = words[2:] if is_module else words[1:]
    sys.path[0] = order["cwd"] if is_module else str(Path(words[1]).parent)
    if is_module:
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(words[1], run_name="__main__")


def _prepare() -> None:
    import gc
    from importlib import import_module

    gc.disable()
    import_module("daemon.__main__")
    for file in sorted((_ROOT / "daemon" / "commands").glob("*.py")):
        import_module(f"daemon.commands.{file.stem}")
    for module in ("daemon.runtime.access.life", "daemon.runtime.daemon"):
        import_module(module)
    del sys.modules["daemon.__main__"]  # which each copy runs
    gc.collect()
    gc.freeze()
    gc.enable()


def _main() -> None:
    own = socket.socket(fileno=int(sys.argv[1]))
    _prepare()
    order = _serve(own)
    if order is not None:
        _become(order)


if __name__ == "__main__":
    _main()
