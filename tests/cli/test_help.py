"""What the command line tells of itself."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest

from app.cli import main
from app.cli.help import ExampleCommand
from app.settings import Settings

Peerd = Callable[..., Any]


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands(main))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_each_command_has_a_help_with_an_example_of_it(path: tuple[str, ...], peerd: Peerd) -> None:
    result = peerd(*path, "--help")
    assert result.exit_code == 0
    examples = result.stdout.partition("Examples:")[2]
    assert f"peerd {' '.join(path)}" in examples


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_options_in_an_example_exist(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert isinstance(command, ExampleCommand)
    known = {word for option in command.params for word in (*option.opts, *option.secondary_opts)}
    for line in command.examples:
        used = set(re.findall(r"(?<=\s)--[a-z-]+", line.partition("|")[0]))
        assert used <= known, line


@pytest.mark.parametrize(
    "words", [("pull",), ("pull", "--frobnicate", "x"), ("frobnicate",), ("certs", "issue", "--out", "x")]
)
def test_a_wrong_word_ends_with_2_and_is_named(words: tuple[str, ...], peerd: Peerd) -> None:
    result = peerd(*words)
    assert result.exit_code == 2
    assert "Error: " in result.stderr


def test_an_unknown_command_is_told_those_that_are_known(peerd: Peerd) -> None:
    assert "pull" in peerd("pul").stderr


def test_serve_shows_every_option_with_its_default(peerd: Peerd) -> None:
    output = peerd("serve", "--help").stdout
    for name in Settings.model_fields:
        assert re.search(rf"(?<![\w-])--{name.replace('_', '-')}(?![\w-])", output), name
    assert output.count("[default:") == len(Settings.model_fields)


def test_serve_with_a_wrong_value_ends_with_2_before_anything_is_opened(peerd: Peerd) -> None:
    result = peerd("serve", "--cache-size", "10 parrots")
    assert result.exit_code == 2
    assert "--cache-size: '10 parrots' (on the command line)" in result.stderr


def test_the_version(peerd: Peerd) -> None:
    assert re.fullmatch(r"peerd \d+\.\d+\.\d+\S*\n", peerd("--version").stdout)


def test_completion_of_the_shell(monkeypatch: pytest.MonkeyPatch, peerd: Peerd) -> None:
    monkeypatch.setenv("_PEERD_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "peerd pu")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert set(peerd().stdout.split()) == {"plain,pull", "plain,purge"}
