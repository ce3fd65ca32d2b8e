"""A process that holds keys writes no core dump and is no other process's to look into."""

import subprocess
import sys

CONFINED = """
import ctypes, resource
from pathlib import Path
from daemon.runtime.confinement import confine
_, hard = resource.getrlimit(resource.RLIMIT_CORE)
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
confine()
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
print(len(Path("/proc/self/mountinfo").read_text()) > 0, len(list(Path("/proc/self/fd").iterdir())) > 0)
"""


def test_a_confined_process_can_not_be_dumped_or_traced():
    """By the kernel's own word (PR_GET_DUMPABLE), and it still sees itself."""
    done = subprocess.run([sys.executable, "-c", CONFINED], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["(0, 0) 0", "True True"]
