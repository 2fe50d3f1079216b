"""The units under deploy/systemd, checked offline: exposure, syntax, and whether the daemon can live in its sandbox."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.house import House, wait_for
from tests.support.tool import needs

UNITS = ROOT / "deploy" / "systemd"
# systemd's scale in tenths: 0 is closed, 100 open. The cloud's unit runs programs of the users; what it leaves open is
# listed in it with reasons.
EXPOSURE_MAX = {"dsched.service": 15, "dsched-cloud.service": 35}
ROOTS_CALLS = {"fchown"}  # SQLite gives its files to the database's owner, when it runs as root and only then


@needs("systemd-analyze")
@pytest.mark.parametrize("unit", EXPOSURE_MAX)
def test_a_unit_is_no_more_exposed_than_it_must_be(unit: str) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX[unit]}", UNITS / unit]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs("systemd-analyze")
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    for unit in EXPOSURE_MAX:  # the programs are not installed here; everything else stays as it is
        (tmp_path / unit).write_text(re.sub(r"(?m)^(ExecStart=)\S+", r"\1/bin/true", (UNITS / unit).read_text()))
    command = ["systemd-analyze", "verify", "--man=no", *(tmp_path / unit for unit in EXPOSURE_MAX)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    about_ours = [line for line in (done.stdout + done.stderr).splitlines() if "dsched" in line]
    assert about_ours == []


def test_both_units_share_one_user_and_one_state() -> None:
    daemon, cloud = ((UNITS / unit).read_text() for unit in EXPOSURE_MAX)
    for line in ("User=dsched", "StateDirectory=dsched", "UMask=0077"):
        assert line in daemon.splitlines()
        assert line in cloud.splitlines()
    assert "DSCHED_STATE=%S/dsched" in daemon
    assert "--state %S/dsched/cloud" in cloud


def test_the_daemon_can_tell_its_callers_apart() -> None:
    """In a user namespace of its own, SO_PEERCRED calls everybody but root `nobody`."""
    assert "PrivateUsers=no" in (UNITS / "dsched.service").read_text().splitlines()


@pytest.mark.slow
@needs("systemd-analyze", "strace")
def test_the_daemon_finds_its_cloud_running_and_needs_no_forbidden_call(tmp_path: Path) -> None:
    """The cloud is started first, by itself, as its unit does; then the daemon runs a job, with every call recorded."""
    home, trace = House(tmp_path / "s", ("--scale", "60")), tmp_path / "trace"
    home.state.mkdir()
    cloud = start_cloud(home.state / "cloud")
    try:
        home.start(wrapper=("strace", "-f", "-qq", "-o", str(trace)))
        home.wait_state(home.submit("hello", "echo hello"), "succeeded")
        home.kill(signal.SIGTERM)
        assert not (home.state / "cloud" / "cloud.log").exists(), "the daemon started a cloud of its own"
        assert cloud.poll() is None
    finally:
        home.end()
        cloud.wait()
    used = set(re.findall(r"(?m)^\d+ +(\w+)\(", trace.read_text(errors="replace")))
    assert "fsync" in used or "fdatasync" in used
    assert used - allowed("dsched.service") - (ROOTS_CALLS if os.geteuid() == 0 else set()) == set()
    assert "PROT_WRITE|PROT_EXEC" not in trace.read_text(errors="replace"), "MemoryDenyWriteExecute would stop this"


def start_cloud(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dsched.providers.local", "--state", str(folder), "--scale", "60"]
    cloud = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for((folder / "cloud.sock").exists, "the cloud's socket")
    return cloud


def allowed(unit: str) -> set[str]:
    """The system calls that the unit's filter lets through, as systemd here knows its groups."""
    calls: set[str] = set()
    for words in re.findall(r"(?m)^SystemCallFilter=(.*)$", (UNITS / unit).read_text()):
        named = {call for word in words.removeprefix("~").split() for call in expand(word)}
        calls = calls - named if words.startswith("~") else calls | named
    return calls


def expand(word: str) -> Iterator[str]:
    if not word.startswith("@"):
        yield word
        return
    listed = subprocess.run(["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines()[1:]:
        if (entry := line.strip()) and not entry.startswith("#"):
            yield from expand(entry)
