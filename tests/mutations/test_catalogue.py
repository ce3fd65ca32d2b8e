"""The mutations fit the tree as it is, so that `make mutations` can always run them. What they show is shown there."""

import ast
from collections import Counter

import pytest

from tests.mutations.catalogue import DOCUMENT, ROOT, Change, Mutation, mutations, rows

ALL = mutations()


@pytest.mark.parametrize("mutation", ALL, ids=lambda one: f"{one.source}: {one.rule}"[:90])
def test_a_mutation_changes_one_place_of_its_file_and_is_still_code(mutation: Mutation):
    """Where the code has moved on, the mutation follows, or the invariant has lost its proof."""
    before = {name: (ROOT / name).read_text() for name in mutation.files}
    after = mutation.applied(before)
    for name in mutation.files:
        assert ast.dump(ast.parse(after[name])) != ast.dump(ast.parse(before[name]))


def test_a_rule_has_one_row_and_one_mutation_of_it():
    """A mutation finds its file and its tests by the words of the rule."""
    named = Counter(row.rule for row in rows())
    assert [rule for rule in (one.rule for one in ALL) if named[rule] != 1] == []
    assert max(Counter(one.rule for one in ALL).values()) == 1


def test_each_row_has_its_change():
    """A rule is an invariant because a test fails without it, and anybody can see that again."""
    broken = {one.rule for one in ALL}
    assert [row.rule for row in rows() if row.rule not in broken] == []


def test_each_line_of_a_table_is_a_row():
    """A line that is not understood would need no change."""
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    assert len(rows()) == len([line for line in lines if not line.startswith("| broken | in ")])
    assert all(row.files and row.tests for row in rows())


def test_a_text_that_stands_twice_is_refused():
    """Which of the two would be changed is chance."""
    one = Mutation(source="", rule="", changes=[Change(file="a.py", old="x", new="y")], tests=())
    assert one.applied({"a.py": "ax"}) == {"a.py": "ay"}
    with pytest.raises(ValueError, match="2 times"):
        one.applied({"a.py": "xx"})
    with pytest.raises(ValueError, match="0 times"):
        one.applied({"a.py": "a"})
