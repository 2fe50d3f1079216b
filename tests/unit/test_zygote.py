"""A warm process that forks ranks: they are what `python -m` makes, and the starter hears of their end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dsched.jobs.agent.warm import plain

STARTER = """
import os, sys
from pathlib import Path
from dsched.jobs.agent.children import PR_SET_CHILD_SUBREAPER, prctl
from dsched.jobs.agent.warm import Zygote

prctl(PR_SET_CHILD_SUBREAPER, 1)
zygote = Zygote(sys.executable, "slow", Path.cwd(), os.environ)
assert zygote.wait(60) and zygote.ready
"""
SLOW = "def warm():\n    import os\n    os.environ['WARMED'] = 'yes'\n    global ready\n    ready = os.getpid()\n"
RANK = """
import os, sys, slow
forked, here = slow.ready != os.getpid(), os.getcwd() == sys.path[0]
print(sys.argv[1:], os.environ.get("WHO"), "WARMED" in os.environ, forked, here)
print(os.getsid(0) == os.getpid(), os.getppid() == int(os.environ["STARTER"]), sys.stdin.read() == "", flush=True)
sys.exit(int(sys.argv[1]))
"""


@contextmanager
def folder(tmp_path: Path, script: str) -> Iterator[str]:
    """Runs a starter in a folder with a module that warms up and one that is the rank; what it printed."""
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "rank.py").write_text(RANK)
    done = subprocess.run(
        [sys.executable, "-c", STARTER + script], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    yield done.stdout


def test_a_rank_is_what_python_would_have_made_of_it(tmp_path: Path) -> None:
    script = """
env = {"WHO": "me", "PATH": os.environ["PATH"], "STARTER": str(os.getpid())}
for code in (0, 75):
    pid, gate = zygote.fork(["-m", "rank", str(code), "two words"], env, 1)
    os.write(gate, b"\\n")
    os.close(gate)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code
zygote.close()
assert os.waitstatus_to_exitcode(os.waitpid(zygote.pid, 0)[1]) in (0, -9)
"""
    with folder(tmp_path, script) as said:
        lines = said.splitlines()
        assert lines[0] == "['0', 'two words'] me False True True"
        assert lines[1] == lines[3] == "True True True"
        assert lines[2].startswith("['75'")


def test_a_rank_waits_at_its_gate_and_ends_when_nobody_opens_it(tmp_path: Path) -> None:
    script = """
pid, gate = zygote.fork(["-m", "rank", "0"], {"STARTER": "0"}, 1)
assert os.waitpid(pid, os.WNOHANG) == (0, 0)
os.close(gate)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
"""
    with folder(tmp_path, script) as said:
        assert said == ""


def test_what_the_zygote_cannot_do_is_an_error_and_not_a_rank(tmp_path: Path) -> None:
    script = """
import signal
try:
    zygote.fork(["rank"], {}, 1)
except OSError as error:
    print(error)
os.kill(zygote.pid, signal.SIGKILL)
os.waitpid(zygote.pid, 0)
try:
    zygote.fork(["-m", "rank", "0"], {}, 1)
except OSError as error:
    print(error)
assert not zygote.ready
"""
    with folder(tmp_path, script) as said:
        refused, ended = said.splitlines()
        assert refused.startswith("the zygote does not fork: a request has argv -m MODULE")
        assert ended.startswith("the zygote does not fork")


def test_a_rank_ends_as_python_ends(tmp_path: Path) -> None:
    (tmp_path / "last.py").write_text(
        "import atexit, sys, threading\n"
        "atexit.register(print, 'registered')\n"
        "threading.Thread(target=lambda: (threading.main_thread().join(), print('thread'))).start()\n"
        "sys.exit(3)\n"
    )
    script = """
pid, gate = zygote.fork(["-m", "last"], {}, 1)
os.write(gate, b"\\n")
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
"""
    with folder(tmp_path, script) as said:
        assert said.splitlines() == ["thread", "registered"]


def test_a_rank_that_fails_says_why_and_exits_with_one(tmp_path: Path) -> None:
    script = """
pid, gate = zygote.fork(["-m", "nothing_of_this_name"], {}, 1)
os.write(gate, b"\\n")
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
"""
    with folder(tmp_path, script) as said:
        assert "No module named nothing_of_this_name" in said


def test_a_zygote_that_has_ended_is_not_killed_by_its_number(tmp_path: Path) -> None:
    script = """
import signal, subprocess
os.kill(zygote.pid, signal.SIGKILL)
zygote.ended(os.waitstatus_to_exitcode(os.waitpid(zygote.pid, 0)[1]))
other = subprocess.Popen(["sleep", "1000"])
zygote.pid = other.pid  # as the kernel may give it again
zygote.close()
other.terminate()
print(other.wait())
"""
    with folder(tmp_path, script) as said:
        assert said == "-15\n"


def test_a_rank_that_dies_at_its_gate_ends_like_any_other(tmp_path: Path) -> None:
    script = """
import signal
from dsched.jobs.agent.children import Children
from dsched.jobs.agent.loop import Loop
children, codes = Children(Loop()), []
pid, gate = zygote.fork(["-m", "rank", "0"], {}, 1)
os.kill(pid, signal.SIGKILL)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
assert children._open(pid, gate, codes.append) == pid
children.reap()
print(codes)
"""
    with folder(tmp_path, script) as said:
        assert said == "[-9]\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("python -m train --steps 3", ("python", ["-m", "train", "--steps", "3"])),
        ("exec /opt/v/bin/python3.11 -m a.b", ("/opt/v/bin/python3.11", ["-m", "a.b"])),
        ("python train.py", None),
        ("python -m train && echo done", None),
        ("python -m train $HOME", None),
        ("torchrun -m train", None),
        ("", None),
    ],
)
def test_only_a_plain_command_can_be_forked(command: str, words: tuple[str, list[str]] | None) -> None:
    assert plain(command) == words
