"""How long a token that met a bug is left alone."""

from datetime import timedelta

from daemon.refreshing.quarantine import Quarantine

NOW, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def test_each_time_it_lasts_twice_as_long_up_to_six_hours():
    """Five minutes at first."""
    quarantine, now, spans = Quarantine(), NOW, []
    for _ in range(9):
        quarantine.put("acme:1", now)
        begun = now
        while quarantine.held(now):
            now += MINUTE
        spans.append((now - begun) // MINUTE)
    assert spans == [5, 10, 20, 40, 80, 160, 320, 360, 360]


def test_what_went_well_is_forgotten():
    """The next bug is the first again."""
    quarantine = Quarantine()
    quarantine.put("acme:1", NOW)
    quarantine.put("acme:1", NOW)
    quarantine.release("acme:1")
    assert quarantine.held(NOW) == set()
    quarantine.put("acme:1", NOW)
    assert quarantine.held(NOW + 5 * MINUTE) == set()


def test_a_reload_gives_everything_another_chance():
    """A key or a definition may have been corrected."""
    quarantine = Quarantine()
    quarantine.put("acme:1", NOW)
    quarantine.clear()
    assert quarantine.held(NOW) == set()
