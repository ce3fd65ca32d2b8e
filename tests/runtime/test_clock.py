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


def asked_for(clock: Clock, took: timedelta, told: datetime) -> None:
    """A question that has just been answered with `told`, and took so long."""
    answered = clock.boot()
    clock.set_store_time(told, asked=answered - took, answered=answered)


@pytest.mark.parametrize("seconds", [1.5, 15, 60, 86_400])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0], ids=["looked at once", "in between", "at the end"])
def test_a_question_that_took_long_moves_the_clock_by_nothing(seconds, share):
    """A process or a machine that slept with its question under way: its clock does not move by half of its sleep."""
    clock, slept = Clock(), timedelta(seconds=seconds)
    asked_for(clock, timedelta(milliseconds=2), LONG_AGO)
    asked_for(clock, slept, LONG_AGO - slept * (1 - share))
    assert abs(clock.now() - LONG_AGO) < A_MOMENT


def test_a_question_that_took_long_is_used_where_nothing_is_known_yet():
    """Better than no time at all; the next quick answer takes its place, and a slower one does not."""
    clock = Clock()
    asked_for(clock, timedelta(seconds=20), LONG_AGO)
    assert abs(clock.now() - LONG_AGO - timedelta(seconds=10)) < A_MOMENT
    asked_for(clock, timedelta(seconds=60), LONG_AGO + timedelta(seconds=5))
    assert abs(clock.now() - LONG_AGO - timedelta(seconds=10)) < A_MOMENT
    asked_for(clock, timedelta(seconds=4), LONG_AGO)
    assert abs(clock.now() - LONG_AGO - timedelta(seconds=2)) < A_MOMENT
    asked_for(clock, timedelta(milliseconds=2), LONG_AGO)
    assert abs(clock.now() - LONG_AGO) < A_MOMENT


def test_a_slow_answer_that_contradicts_what_is_known_is_believed():
    """The store's clock was set by an hour while every question takes three seconds: no answer is quick, and it shows."""
    clock, hour = Clock(), timedelta(hours=1)
    asked_for(clock, timedelta(milliseconds=2), LONG_AGO)
    asked_for(clock, timedelta(seconds=3), LONG_AGO + hour)
    assert abs(clock.now() - LONG_AGO - hour) < 2 * A_MOMENT


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
