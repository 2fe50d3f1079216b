"""From a launch to a bare machine's first word: the script, the agent as one file, the certificate, settings."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from dsched.scheduler.bringup.certificate import Certificate, CertificateError, own_certificate
from dsched.scheduler.bringup.code import agent_code
from dsched.scheduler.bringup.script import BYTES_MAX, ScriptTooLong, start_script
from dsched.scheduler.bringup.settings import ADDRESS_MAX, CODE_MAX, SOURCES_MAX, Nodes, SettingsError, read
from dsched.scheduler.wire.agent import UserData
from tests.support.house import marked, wait_for

DIGEST = "d" * 64


def data(**more: Any) -> UserData:
    told: dict[str, Any] = {
        "cluster": "c" * 32,
        "token": "ds-0123456789ab",
        "daemon": "https://scheduler.example.org:7443",
        "secret": f"1795341234000.{'a' * 64}",
        "lease_until": 4_000_000_000_001,
        "drain_ms": 10_000,
        "heartbeat_ms": 10_000,
        "pin": "b" * 64,
    }
    return UserData(**{**told, **more})


def script(**more: Any) -> str:
    return start_script(data(**more), flavour="aws", sha256=DIGEST, sources=["https://a.example/x?y=1&z=2", "http://b"])


def test_the_same_launch_gives_the_same_bytes_and_they_are_few() -> None:
    assert script() == script()
    assert len(script().encode()) < 3_000 < BYTES_MAX


def test_what_ends_the_machine_is_armed_before_anything_that_may_fail() -> None:
    lines = script().splitlines()
    armed = lines.index("up deadman")
    assert lines[4] == "[ -s lease ] || echo 4000000001 >lease"
    assert all("fetch" not in line and "urlopen" not in line for line in lines[:armed])
    assert lines[-1] == "up agent"


def test_whatever_the_settings_allow_has_room_in_user_data() -> None:
    nodes = Nodes(
        listen="0.0.0.0:7443", address=f"{'a' * (ADDRESS_MAX - 5)}:7443", code=(f"https://{'c' * 117}",) * SOURCES_MAX
    )
    assert sum(map(len, nodes.code)) == CODE_MAX
    sources = [*(f"{place}/{DIGEST}.pyz" for place in nodes.code), f"{nodes.home}/agent/v1/code/{DIGEST}"]
    told = data(daemon=nodes.home, token="t" * 64, cluster="c" * 32, pin="d" * 64, secret=f"{10**12}.{'e' * 64}")
    start_script(told, flavour="aws", sha256=DIGEST, sources=sources)


def test_a_launch_that_carries_too_much_is_refused_with_the_remedy() -> None:
    with pytest.raises(ScriptTooLong, match=r"4096 are the most; shorten the addresses in \[nodes\]"):
        script(daemon="https://" + "h" * 2_000)


def test_the_agent_is_one_file_that_python_runs_by_itself(tmp_path: Path) -> None:
    """Nothing of an installation is in reach: -I hides the environment, -S the packages."""
    (tmp_path / "agent.pyz").write_bytes(agent_code().data)
    env = {"PATH": os.environ["PATH"], "DSCHED_METADATA_FLAVOUR": "nowhere", "DSCHED_NODE_DIR": str(tmp_path / "disk")}
    run = [sys.executable, "-I", "-S", "agent.pyz"]
    ended = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 78
    assert "DSCHED_METADATA_FLAVOUR: 'nowhere' is not known" in ended.stderr


def test_the_agents_file_holds_no_more_than_it_needs() -> None:
    names = zipfile.ZipFile(BytesIO(agent_code().data)).namelist()
    outside = [name for name in names if not name.startswith("dsched/jobs/agent/") and not name.endswith("__init__.py")]
    assert outside == ["__main__.py", "dsched/scheduler/wire/agent.py"]
    assert len(agent_code().data) < 128 * 1024


# -- the script, run by a shell on a machine that is only played -------------------------------------------------------


class Played:
    """A folder as a machine: off is a file, units go nowhere."""

    def __init__(self, folder: Path) -> None:
        self.disk, self.bin = folder / "disk", folder / "bin"
        self.bin.mkdir(parents=True)
        self.env = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "DSCHED_NODE_DIR": str(self.disk),
            "DSCHED_UNITS": "",
            "DSCHED_OFF": f"touch {folder}/off; exit",
        }
        self.off = folder / "off"

    def run(self, text: str, **env: str) -> None:
        (self.bin / "user-data").write_text(text)
        subprocess.run(["sh", self.bin / "user-data"], env={**self.env, **env}, check=True, timeout=60)

    def tool(self, name: str, text: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.bin / name).chmod(0o755)

    def end(self) -> None:
        for pid in marked(f"DSCHED_NODE_DIR={self.disk}".encode()):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Played]:
    played = Played(tmp_path)
    try:
        yield played
    finally:
        played.end()


def lease_at(seconds: float) -> dict[str, int]:
    return {"lease_until": int((time.time() + seconds) * 1_000)}


def test_a_machine_whose_agent_never_comes_is_off_at_the_end_of_its_lease(machine: Played) -> None:
    until = lease_at(1.0)
    machine.run(start_script(data(**until), flavour="aws", sha256=DIGEST, sources=["http://127.0.0.1:9/agent"]))
    wait_for(machine.off.exists, "the machine to be off")
    assert time.time() * 1_000 >= until["lease_until"] // 1_000 * 1_000


def test_a_renewed_lease_keeps_it_on_and_a_second_start_does_not_shorten_it(machine: Played) -> None:
    machine.disk.mkdir()
    (machine.disk / "lease").write_text("4000000000\n")
    machine.run(start_script(data(**lease_at(-5)), flavour="aws", sha256=DIGEST, sources=["http://127.0.0.1:9/agent"]))
    assert (machine.disk / "lease").read_text() == "4000000000\n"
    assert not machine.off.exists()


def test_an_agent_of_other_bytes_is_never_run(machine: Played) -> None:
    (machine.bin / "agent.pyz").write_bytes(b"print('owned')")
    machine.run(start_script(data(), flavour="aws", sha256=DIGEST, sources=[f"file://{machine.bin}/agent.pyz"]))
    log = machine.disk / "agent.log"
    wait_for(lambda: log.exists() and "other bytes than were wanted" in log.read_text(), "the refusal")
    assert not (machine.disk / "agent.pyz").exists()


def test_the_agent_is_found_at_the_second_place_and_the_machine_ends_with_it(machine: Played) -> None:
    code = agent_code()
    (machine.bin / "good.pyz").write_bytes(code.data)
    sources = ["http://127.0.0.1:9/agent", f"file://{machine.bin}/good.pyz"]
    text = start_script(data(daemon="nonsense"), flavour="nowhere", sha256=code.sha256, sources=sources)
    machine.run(text)  # a dialect that the agent does not know: it says so, and ends with 78
    wait_for(machine.off.exists, "the machine to be off")
    assert "'nowhere' is not known" in (machine.disk / "agent.log").read_text()
    assert (machine.disk / "node.json").stat().st_mode & 0o077 == 0


def test_a_machine_without_a_python_that_can_run_it_says_so_and_ends(machine: Played) -> None:
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        machine.tool(name, "exit 1")
    machine.run(start_script(data(), flavour="aws", sha256=DIGEST, sources=["http://127.0.0.1:9/agent"]))
    wait_for(machine.off.exists, "the machine to be off")
    assert "no Python of (3,11)" in (machine.disk / "agent.log").read_text()


def test_under_systemd_both_are_units_that_a_reboot_starts_again(machine: Played, tmp_path: Path) -> None:
    units = tmp_path / "units"
    units.mkdir()
    machine.tool("systemctl", f"echo $* >>{tmp_path}/asked")
    machine.run(script(), DSCHED_UNITS=str(units))
    assert sorted(unit.name for unit in units.iterdir()) == ["dsched-agent.service", "dsched-deadman.service"]
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == ["daemon-reload", "enable --now dsched-deadman", "daemon-reload", "enable --now dsched-agent"]
    text = (units / "dsched-deadman.service").read_text()
    assert f"WorkingDirectory={machine.disk}\nExecStart=/bin/sh deadman\n" in text
    assert not marked(f"DSCHED_NODE_DIR={machine.disk}".encode())


def test_where_systemd_refuses_the_end_of_the_machine_is_armed_all_the_same(machine: Played, tmp_path: Path) -> None:
    machine.tool("systemctl", "exit 1")
    text = start_script(data(**lease_at(1.0)), flavour="aws", sha256=DIGEST, sources=["http://127.0.0.1:9/agent"])
    machine.run(text, DSCHED_UNITS=str(tmp_path))
    wait_for(machine.off.exists, "the machine to be off")


# -- the certificate --------------------------------------------------------------------------------------------------


def test_a_certificate_is_made_once_and_its_key_is_nobody_elses(tmp_path: Path) -> None:
    made = own_certificate(tmp_path)
    assert made.pin == own_certificate(tmp_path).pin
    assert made.key.stat().st_mode & 0o077 == 0
    assert made.context().minimum_version is ssl.TLSVersion.TLSv1_3


def test_without_openssl_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CertificateError, match="install it, or name certificate and key"):
        own_certificate(tmp_path)


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("hello")
    with pytest.raises(CertificateError, match=r"a\.pem: no certificate in PEM"):
        _ = Certificate(tmp_path / "a.pem", tmp_path / "a.key").pin


# -- settings ---------------------------------------------------------------------------------------------------------


def test_without_settings_no_port_is_open() -> None:
    assert read({}).listen == ""


def test_nodes_are_told_the_address_that_reaches_us() -> None:
    assert read({"listen": "10.0.0.1:7443"}).home == "https://10.0.0.1:7443"
    assert read({"listen": "0.0.0.0:7443", "address": "scheduler.example.org:443"}).home == (
        "https://scheduler.example.org:443"
    )
    assert Nodes(listen="[::1]:7443").host == "[::1]"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"lisen": "a:1"}, "unknown setting 'lisen'; known: address"),
        ({"listen": 7443}, "listen = 7443: must be a text"),
        ({"listen": "7443"}, "must be host:port, such as 0.0.0.0:7443"),
        ({"listen": "a:70000"}, "must be host:port"),
        ({"listen": "0.0.0.0:7443"}, "cannot be called; say how nodes reach it: address"),
        ({"address": "a:1"}, "address without listen"),
        ({"listen": "a:1", "key": "k"}, "certificate and key belong together"),
        ({"probe": "no"}, "must be true or false"),
        ({"code": ["ftp://a"]}, "folders such as https://"),
        ({"code": "https://a"}, "must be a list of texts"),
        ({"code": [f"https://{'a' * 250}", f"https://{'b' * 250}"]}, "516 characters together, 500 are the most"),
        ({"listen": "a:1", "address": f"{'a' * 260}:1"}, "262 characters, 260 are the most"),
        ({"checkpoints": {"aws": "/disk"}}, "a folder such as s3://bucket/dsched"),
        ({"checkpoints": {"azure": "s3://b/c"}}, r"must be a cloud \(aws or gcp\)"),
        ({"checkpoints": "s3://b"}, r"must be a table of texts, \[nodes\.checkpoints\]"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_with_its_remedy(table: Mapping[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        read(table)
