"""What SQL can do to a journal's file, each at each start; the hunt only draws from it."""

import pytest

from tests.fuzz import journals


@pytest.mark.parametrize("wal", [False, True], ids=["stopped", "killed"])
@pytest.mark.parametrize("what", sorted(journals.STATEMENTS))
def test_a_file_that_sql_has_changed_is_refused_or_keeps_its_entries(what, wal):
    """SQLite finds all of them sound, so its own check is not enough."""
    journals.check({"wal": wal, "damage": {"kind": "sql", "what": what}})


@pytest.mark.parametrize("wal", [False, True], ids=["stopped", "killed"])
@pytest.mark.parametrize("kind", ["no wal", "foreign wal", "wal of noise", "no file"])
def test_files_that_do_not_belong_together_end_no_start_with_a_traceback(kind, wal):
    """As after a restore that copied one of them."""
    journals.check({"wal": wal, "damage": {"kind": kind}})


def test_without_damage_every_entry_is_there():
    """Else the hunt would find nothing because nothing is there."""
    for wal in (False, True):
        journals.check({"wal": wal, "damage": {"kind": "none"}})
    assert {len(journals.sound(wal=wal)) for wal in (False, True)} == {1, 2}
