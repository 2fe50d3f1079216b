"""What the pages promise: links that lead somewhere, commands and options that exist, benchmarks that are there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from dsched.scheduler.cli.main import COMMANDS
from dsched.scheduler.config import Config
from dsched.scheduler.wire.spec import json_schema, load
from tests.support.checkout import ROOT, files, text

PAGES = files(".md")
REFERENCE = Path("docs/reference")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<img[^>]+src=\"([^\"]+)\"")
_FENCE = re.compile(r"(?ms)^```(\w*)\n(.*?)^```$")


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    dead = []
    for found in _LINK.finditer(text(page)):
        target = found[1] or found[2]
        if not re.match(r"[a-z]+:|#", target):
            path, _, anchor = target.partition("#")
            place = ROOT / page.parent / path
            if not place.exists() or (anchor and anchor not in anchors(place)):
                dead.append(target)
    assert dead == []


def anchors(page: Path) -> set[str]:
    """As GitHub makes them from headings."""
    heads = re.findall(r"(?m)^#+ (.+)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_benchmark_that_a_page_names_exists(page: Path) -> None:
    missing = [name for name in re.findall(r"\bbench/\w+\.py\b", text(page)) if Path(name) not in files(".py")]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"`((?:scheduler|providers|jobs|tui|deploy|tests|docs)/[\w./-]+)`", text(page))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_command_and_option_on_a_page_exists(page: Path) -> None:
    wrong = [" ".join(words) for words in commands(text(page)) if not known(words)]
    assert wrong == []


def commands(page: str) -> Iterator[list[str]]:
    """Every `dsched ...` line of the page's shell blocks, and every one inline."""
    lines = [line for kind, block in _FENCE.findall(page) if kind in ("sh", "console") for line in block.splitlines()]
    lines += re.findall(r"`(dsched [^`]*)`", _FENCE.sub("", page))
    for line in lines:
        for command in re.split(r"\s[|&;]+\s|\s#\s", line.removeprefix("$ ").replace("...", "")):
            if command.startswith("dsched ") and "COMMAND" not in command:
                yield shlex.split(command.rstrip(" &"))


def known(words: list[str]) -> bool:
    """Whether the command is in `dsched --help`, and its long options in its own help."""
    names = [word for word in words[1:] if not word.startswith("-")]
    if not names:
        return all(word.partition("=")[0] in options("") for word in words[1:])
    given = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
    return names[0] in {entry.name for entry in COMMANDS} and given <= options(names[0])


@cache
def options(command: str) -> frozenset[str]:
    argv = [sys.executable, "-m", "dsched", *([command] if command else []), "--help"]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return frozenset(re.findall(r"--[a-z][\w-]*", told))


def test_the_reference_lists_every_command() -> None:
    page = text(REFERENCE / "cli.md")
    listed = re.findall(r"(?m)^\| `dsched (\w+)`", page)
    assert sorted(listed) == sorted(entry.name for entry in COMMANDS)
    assert [entry.name for entry in COMMANDS if entry.help not in page] == []


def test_the_committed_schema_is_the_codes() -> None:
    """Else: dsched schema > docs/reference/job-spec.schema.json"""
    assert json.loads(text(REFERENCE / "job-spec.schema.json")) == json_schema()


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_job_spec_on_a_page_can_be_read(page: Path) -> None:
    for kind, block in _FENCE.findall(text(page)):
        if kind == "yaml" and re.search(r"(?m)^run:", block):
            load(block, str(page))


def test_the_reference_lists_every_setting_of_the_daemon() -> None:
    page = text(REFERENCE / "config.md")
    assert [f.name for f in fields(Config) if f.name != "state" and f"`{f.name}`" not in page] == []
