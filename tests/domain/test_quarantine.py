"""How long a token is left alone that met a bug or can't be changed."""

from datetime import timedelta

from daemon.domain.quarantine import MOST, Quarantine

NOW, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def made():
    return Quarantine(first=5 * MINUTE, last=360 * MINUTE)


def test_each_time_it_lasts_twice_as_long_up_to_six_hours():
    """Five minutes at first."""
    quarantine, now, spans = made(), NOW, []
    for _ in range(9):
        quarantine.put("acme:1", "a bug", now=now)
        begun = now
        while quarantine.held(now):
            now += MINUTE
        spans.append((now - begun) // MINUTE)
    assert spans == [5, 10, 20, 40, 80, 160, 320, 360, 360]


def test_what_went_well_is_forgotten():
    """The next bug is the first again."""
    quarantine = made()
    quarantine.put("acme:1", "a bug", now=NOW)
    quarantine.put("acme:1", "a bug", now=NOW)
    quarantine.release(["acme:1"])
    assert quarantine.held(NOW) == set()
    quarantine.put("acme:1", "a bug", now=NOW)
    assert quarantine.held(NOW + 5 * MINUTE) == set()


def test_a_reload_gives_everything_another_chance():
    """A key or a definition may have been corrected."""
    quarantine = made()
    quarantine.put("acme:1", "a bug", now=NOW)
    quarantine.clear()
    assert quarantine.held(NOW) == set()


def test_a_rest_for_another_reason_is_news():
    """The same one is reported once."""
    quarantine = made()
    assert [quarantine.put("acme:1", why, now=NOW) for why in ("a", "a", "b")] == [True, False, True]


def test_it_remembers_no_more_than_it_may():
    """The longest known is forgotten first."""
    quarantine = made()
    for number in range(MOST + 1):
        quarantine.put(str(number), "a", now=NOW)
    assert quarantine.full
    assert len(quarantine.held(NOW)) == MOST
    assert "0" not in quarantine.held(NOW)
