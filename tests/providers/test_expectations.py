"""The table of expectations is whole."""

from daemon.domain.provider import Grant
from daemon.runtime.config.providers.definitions import shipped
from daemon.sandbox import recorded
from tests.providers.expectations import ROWS
from tests.providers.row import STANDARD


def test_every_definition_and_every_dialect_has_its_row() -> None:
    """What is only watched sends nothing, so it has none; an experimental provider's says what is not settled."""
    renewed = {name for name, known in shipped().items() if known.grant is not Grant.NONE}
    watched = shipped().keys() - renewed
    assert {row.definition for row in ROWS.values()} == renewed
    assert {row.sandbox for row in ROWS.values()} == set(recorded.names()) - watched
    for row in ROWS.values():
        assert bool(row.unsettled) is not shipped()[row.definition].verified
        assert row.says.keys() <= STANDARD.keys()
