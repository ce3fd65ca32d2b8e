"""The environment of programs that a test starts as an operator would: nothing of this machine's but PATH."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]


def bare(binaries: Path, **more: str) -> dict[str, str]:
    """Programs are looked for in `binaries` first, and Python finds refreshd. A clock that is moved stays moved."""
    moved = {name: value for name, value in os.environ.items() if name.startswith(("FAKETIME", "LD_PRELOAD"))}
    modules = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **moved,
        "PATH": os.pathsep.join([str(binaries), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(modules),
        **more,
    }
