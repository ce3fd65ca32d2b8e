"""The clock: the store's time, carried by the time since boot, and nothing of this machine's wall clock."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daemon.domain.claim import StoreLost
from daemon.runtime.clock import Clock
from tests.support import wall_clock

LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)
A_MOMENT = timedelta(seconds=2)
UPTIME = Path("/proc/uptime")
DAY = 86_400
ASK = "from daemon.runtime.clock import Clock; print(Clock().boot().total_seconds())"


def test_it_tells_the_stores_time_whatever_the_wall_clock_says():
    """A store that lives decades ago is believed; how far the wall clock is ahead of it is the skew."""
    clock = Clock()
    clock.set_store_time(LONG_AGO, asked=clock.boot(), answered=clock.boot())
    assert abs(clock.now() - LONG_AGO) < A_MOMENT
    assert clock.skew is not None
    assert abs(clock.skew - (wall_clock.now() - LONG_AGO)) < A_MOMENT


def test_the_stores_time_is_that_of_the_middle_of_the_question():
    """It looked at its clock somewhere between the question and the answer: at most half of that is the error."""
    clock = Clock()
    answered = clock.boot()
    clock.set_store_time(LONG_AGO, asked=answered - timedelta(seconds=20), answered=answered)
    assert abs(clock.now() - LONG_AGO - timedelta(seconds=10)) < A_MOMENT


def test_before_the_store_was_asked_it_tells_nothing():
    """The wall clock would be a guess: nothing is claimed on one."""
    with pytest.raises(StoreLost):
        Clock().now()
    assert Clock().skew is None


@pytest.mark.skipif(not UPTIME.exists(), reason="needs /proc")
def test_boot_time_is_the_time_since_boot():
    """Not the time of day, which somebody may set."""
    assert (
        abs(Clock().boot().total_seconds() - float(UPTIME.read_text().split()[0])) < A_MOMENT.total_seconds()
    )


def test_boot_time_counts_the_time_that_the_machine_slept():
    """Where boot time is a day ahead of monotonic time, as after a day's sleep (here: in a time namespace), it shows."""
    command = ["unshare", "--time", "--boottime", str(DAY), sys.executable, "-c", ASK]
    try:
        slept = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError as why:
        pytest.skip(f"no time namespace can be made here: {why}")
    if slept.returncode:
        pytest.skip(f"no time namespace can be made here: {slept.stderr.strip()}")
    awake = Clock().boot().total_seconds()
    assert abs(float(slept.stdout) - awake - DAY) < 60
