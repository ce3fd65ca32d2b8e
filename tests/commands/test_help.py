"""`refreshd help`, `version`, and what `--help` prints for every command."""

import pytest

from daemon.commands.app import COMMANDS
from tests.commands.help_texts import FILES, WIDTH, commands, file_of, text_of

AGAIN = "if that is intended: python -m tests.commands.help_texts, and read the diff as a user"
ALL = list(commands())
SINGLE = [
    words
    for words in ALL
    if words and words not in (("keys",), ("journal",), ("backup",), ("access",), ("hooks",))
]


@pytest.mark.parametrize("words", ALL, ids=lambda words: " ".join(words) or "refreshd")
def test_the_help_is_the_golden_one(words):
    """Byte by byte, on a terminal of 80 columns."""
    assert text_of(words) == file_of(words).read_text(), AGAIN


def test_each_file_belongs_to_a_command():
    """And the other way round."""
    assert sorted(FILES.iterdir()) == sorted(map(file_of, ALL))


@pytest.mark.parametrize("words", ALL[1:], ids=" ".join)
def test_every_command_has_an_example_and_no_type_names(words):
    """The help fits 80 columns; the example is the command itself; Python's types are not shown."""
    text = text_of(words)
    assert max(map(len, text.splitlines())) <= WIDTH
    example = text.partition("\nExample:\n")[2]
    assert f"refreshd {' '.join(words)}" in example
    assert not {"<bool>", "<str>", "<int>", "<path>"} & set(text.split())


@pytest.mark.parametrize("words", SINGLE, ids=" ".join)
def test_every_command_takes_the_common_options(words):
    """--config, --env-file, --debug and --json."""
    assert all(option in text_of(words) for option in ("--config", "--env-file", "--debug", "--json"))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_command_says(name):
    """The summary is written twice, so that the list needs no command's module."""
    assert " ".join(text_of((name,)).split("\n\n")[1].split()) == COMMANDS[name].summary


def test_a_section_of_the_configuration_in_a_help_text_is_no_markup():
    """Rich would have swallowed the name in brackets."""
    assert "[keys.ring]" in text_of(("keys", "generate"))
    assert "[keys.ring]" in text_of(("keys",))


def test_help_prints_what_the_option_prints(cli):
    """Of refreshd itself, of a command, and of a command of a group."""
    for words in ((), ("refresh",), ("keys",), ("journal", "replay")):
        ran = cli.run("help", *words)
        assert (ran.code, ran.out) == (0, cli.run(*words, "--help").out)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("lst",), "No such command 'lst'. Did you mean 'list'?"),
        (("keys", "chek"), "No such command 'chek'. Did you mean 'check'?"),
        (("list", "all"), "refreshd list has no command 'all'"),
    ],
)
def test_help_of_an_unknown_command_is_wrong_usage(cli, words, what):
    """With a suggestion, if a name is close."""
    ran = cli.run("help", *words)
    assert (ran.code, ran.out) == (2, "")
    assert what in ran.err


def test_version_prints_the_line_of_the_option(cli):
    """Or JSON for programs."""
    ran = cli.run("version")
    assert (ran.code, ran.err, ran.out) == (0, "", cli.run("--version").out)
    assert cli.run("version", "--json").json() == {"version": ran.out.split()[1]}
