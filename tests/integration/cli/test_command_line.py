"""The command line itself: its ends, its mistakes, its help, and the process around it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dsched.scheduler.cli.main import COMMANDS
from tests.support.cli import dsched
from tests.support.fake_api import FakeApi, Refusal, Request
from tests.tui import fleet


def test_no_daemon_is_said_with_its_remedy(tmp_path: Path) -> None:
    said = dsched("ps", "--server", tmp_path / "api.sock")
    assert said.code == 3
    assert said.err.splitlines() == [
        f"error[E301] no daemon at {tmp_path}/api.sock (no such file or directory)",
        "  do    dsched daemon     or     dsched demo     (needs no daemon)",
    ]


def test_failures_are_json_where_json_was_asked_for(tmp_path: Path) -> None:
    said = dsched("ps", "--server", tmp_path / "api.sock", "-o", "json")
    assert said.out == ""
    assert (json.loads(said.err)["v"], json.loads(said.err)["error"]["code"]) == (1, "E301")


def test_an_option_before_the_command_is_told_where_it_belongs() -> None:
    assert "options stand behind the command" in dsched("-o", "json", "ps").err


def test_an_unknown_job_ends_with_5(api: FakeApi) -> None:
    assert dsched("cancel", "j99").code == 5


@pytest.mark.parametrize(("status", "code"), [(403, 4), (404, 5), (406, 6), (402, 7), (422, 2), (429, 1), (503, 1)])
def test_refusals_have_their_own_ends(api: FakeApi, status: int, code: int) -> None:
    def refuse(_: Request) -> None:
        raise Refusal(status, code=f"E{status}", message="no")

    api.on("GET", "/v1/jobs", refuse)
    assert dsched("ps").code == code


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("pss",), "No such command 'pss'. Did you mean 'ps'?"),
        (("ps", "--frob"), "No such option: --frob"),
        (("ps", "-l", "many"), "'many' is not a number"),
        (("ps", "-o", "xml"), "no output format 'xml'"),
        (("ps", "--columns", "cost"), "no column 'cost'; there are: job, name"),
        (("ps", "--server", "https://x"), "'https://x' is no unix socket"),
        (("logs",), "Missing argument 'JOB'"),
        (("wait", "j12", "--for", "suceeded"), "cannot wait for 'suceeded'; did you mean succeeded?"),
        (("wait", "j12", "--timeout", "5"), "--timeout: '5' has no unit; write 5s, 5m or 5h"),
        (("plan", "/nowhere.yaml"), "/nowhere.yaml: no such file or directory"),
        (("completion", "tcsh"), "no completion for 'tcsh'"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_why(api: FakeApi, argv: tuple[str, ...], said: str) -> None:
    result = dsched(*argv)
    assert said in result.err
    assert result.err.startswith("error[E1")
    assert result.code == 2


def test_the_schema_is_json(api: FakeApi) -> None:
    assert dsched("schema").json["title"] == "dsched job"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion_scripts_are_printed(api: FakeApi, shell: str) -> None:
    assert "_DSCHED_COMPLETE" in dsched("completion", shell).out


def process(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dsched", *argv]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environ, timeout=60, check=False)


def test_as_a_process_it_ends_as_it_says(api: FakeApi) -> None:
    done = process("ps", "-q")
    assert (done.returncode, done.stdout) == (0, "j12\nj11\n")
    assert process("cancel", "j99").returncode == 5


def test_job_names_are_completed_by_the_daemon(api: FakeApi) -> None:
    words = {"COMP_WORDS": "dsched logs j", "COMP_CWORD": "2", "_DSCHED_COMPLETE": "complete_bash"}
    assert process(**words).stdout.split() == ["j12", "j11"]


def test_commands_are_completed_without_a_daemon() -> None:
    words = {"COMP_WORDS": "dsched pr", "COMP_CWORD": "1", "_DSCHED_COMPLETE": "complete_bash"}
    assert process(**words).stdout.split() == ["prices"]


def test_a_reader_that_has_enough_is_no_failure(api: FakeApi) -> None:
    api.on("GET", "/v1/jobs", fleet.jobs(3_000))
    command = f"{sys.executable} -m dsched ps | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines()[1] == "0"
    assert "Traceback" not in done.stderr


def test_a_terminal_without_utf8_still_gets_its_table(api: FakeApi) -> None:
    done = process("ps", PYTHONIOENCODING="ascii")
    assert "* running" in done.stdout
    assert done.returncode == 0


def test_the_help_says_what_each_command_says_of_itself() -> None:
    for entry in COMMANDS:
        if not entry.process:
            said = dsched(entry.name, "--help")
            assert said.code == 0
            assert entry.help in " ".join(said.out.split()), entry.name
            assert "--server" in said.out
    top = dsched("--help").out
    for entry in COMMANDS:
        assert entry.help in " ".join(top.split()), entry.name


def test_the_version_is_told() -> None:
    assert dsched("--version").out == "dsched 0.1.0\n"
