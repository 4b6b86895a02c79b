"""Documents say what is so: links lead somewhere, files, commands, options and targets that they name exist."""

import importlib.util
import re
import shlex
from pathlib import Path

import click
import pytest

from app.cli import main
from tests.docs.markdown import ROOT, Page, pages

PAGES = {str(page.path.relative_to(ROOT)): page for page in pages()}
EVERY_PAGE = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
_PATH = re.compile(r"(?:app|peerd_gossip|tests|scripts|docs|openapi|requirements|bench)/[\w./-]+\.\w+")
_OPTION = re.compile(r"--[a-z][a-z-]+")


@EVERY_PAGE
def test_links_lead_somewhere(page: Page) -> None:
    for link in page.links:
        if re.match(r"[a-z]+:", link):
            continue
        target, _, fragment = link.partition("#")
        path = (page.path.parent / target).resolve() if target else page.path
        assert path.exists(), f"{link} leads nowhere"
        if fragment:
            there = Page(path, path.read_text(encoding="utf-8"))
            assert fragment in there.anchors, f"{link}: {path.name} has no such heading"


@EVERY_PAGE
def test_files_that_are_named_exist(page: Page) -> None:
    missing = [name for name in page.code if _PATH.fullmatch(name) and not (ROOT / name).exists()]
    assert not missing


@EVERY_PAGE
def test_make_targets_that_are_named_exist(page: Page) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {match for text in (*page.code, page.text) for match in re.findall(r"(?:^|`|\$ )make ([a-z][a-z-]*)", text)}
    assert named <= targets


@EVERY_PAGE
def test_modules_and_benchmarks_that_are_named_exist(page: Page) -> None:
    text = "\n".join([page.text, *page.code])
    modules = re.findall(r"python3? -m ([a-z_][a-z_.]*)", text)
    modules += [f"bench.{name}" for names in re.findall(r'BENCH="?([a-z ]+)', text) for name in names.split()]
    assert not [name for name in modules if importlib.util.find_spec(name) is None]


def commands_in(page: Page) -> list[list[str]]:
    """Each `peerd …` of the page's blocks and lines, in words."""
    lines = []
    for block in (*page.blocks("sh"), *page.blocks("console")):
        lines += [line.strip().removeprefix("$ ") for line in block.replace("\\\n", " ").splitlines()]
    lines += page.code
    found = []
    for line in lines:
        match = re.search(r"(?:^|\s)peerd ([a-z].*)", line)
        if match and not re.match(r"(?:on|of|and)\b", match[1]):
            found.append(shlex.split(match[1].replace("…", ""), comments=True))
    return found


@EVERY_PAGE
def test_commands_and_their_options_exist(page: Page) -> None:
    for words in commands_in(page):
        command: click.Command = main
        context = click.Context(main)
        for word in words:
            if not isinstance(command, click.Group) or word.startswith("-"):
                break
            named = command.get_command(context, word)
            assert named is not None, f"there is no peerd {' '.join(words)}"
            command, context = named, click.Context(named, parent=context)
        known = {option for parameter in command.get_params(context) for option in parameter.opts}
        known |= {option for parameter in command.params for option in parameter.secondary_opts}
        unknown = [word for word in words if _OPTION.fullmatch(word) and word not in known]
        assert not unknown, f"peerd {' '.join(words)}"


@EVERY_PAGE
def test_options_in_the_prose_exist(page: Page) -> None:
    known = set()
    to_visit: list[click.Command] = [main]
    while to_visit:
        command = to_visit.pop()
        context = click.Context(command)
        for parameter in command.get_params(context):
            known |= {*parameter.opts, *parameter.secondary_opts}
        if isinstance(command, click.Group):
            to_visit += [
                found for name in command.list_commands(context) if (found := command.get_command(context, name))
            ]
    named = {text.split()[0].split("=")[0] for text in page.code if text.startswith("--")}
    others = {
        "--hypothesis-seed",
        "--index",
        "--lines",
        "--profile",
        "--scale",
    }  # of pytest, benchmarks, docker-compose
    # `--tls-*` means several.
    assert not {name for name in named if name not in known | others and not name.endswith("*")}


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = PAGES["docs/decisions/README.md"].links
    assert sorted(path.name for path in folder.glob("[0-9]*.md")) == sorted(
        link for link in listed if link[0].isdigit()
    )


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = sorted(int(Path(name).name[:4]) for name in PAGES if re.match(r"docs/decisions/\d", name))
    assert numbers == list(range(1, len(numbers) + 1))
