"""Each case that was ever found stays found out; the hunt itself notices, shrinks, saves and repeats a failure."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.fuzz import cost
from tests.fuzz.hunt import FOUND, TARGETS, failing, hunt, save

CASES = sorted(FOUND.glob("*.json"))


class Fragile:
    """A target that fails as soon as a number is large."""

    @staticmethod
    def cases():
        return st.fixed_dictionaries({"n": st.integers(0, 10_000), "more": st.text()})

    @staticmethod
    def check(case):
        assert case["n"] < 700


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_what_was_found_once_is_right_now(path: Path):
    """Cases that failed, as the hunt saved them."""
    found = json.loads(path.read_text())
    TARGETS[found["target"]].check(found["case"])


@pytest.mark.parametrize("name", TARGETS)
def test_a_few_cases_of_each_target_pass(name):
    """The same ones each time; `make fuzz` tries more."""
    assert failing(TARGETS[name], 1, cases=20) is None


def test_a_failing_case_is_made_small_and_saved_and_the_seed_is_named(tmp_path, capsys):
    """All that is needed to see it again."""
    assert hunt(60, 7, targets={"fragile": Fragile}, folder=tmp_path) == 1
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text()) == {"target": "fragile", "case": {"n": 700, "more": ""}}
    assert f"fragile fails with seed 7; saved: {path}" in capsys.readouterr().out


def test_a_hunt_that_finds_nothing_ends_in_its_time(tmp_path, capsys):
    """And says how much it tried."""
    assert hunt(0, 7, targets={"documents": TARGETS["documents"]}, folder=tmp_path) == 0
    assert "100 cases, seeds 7 to 7: nothing found" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_the_same_seed_makes_the_same_cases():
    """In another run, too."""
    first, again = (failing(Fragile, 11) for _ in range(2))
    assert first is not None
    assert again is not None
    assert first[0] == again[0]


def test_a_case_has_the_same_name_whenever_it_is_saved(tmp_path):
    """So that a second find of the same adds nothing."""
    assert save("x", {"a": 1}, tmp_path) == save("x", {"a": 1}, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_call_that_costs_too_much_is_noticed():
    """CPU time counts, and not the time that passes."""
    with pytest.raises(cost.TooSlow, match="1 ms are allowed"):
        cost.bounded(lambda: sum(range(300_000)), timedelta(milliseconds=1))
