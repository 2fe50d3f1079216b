"""The daemon's settings: which of them wins, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsched.scheduler.config import ConfigError, read


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DSCHED_STATE", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("seed = 5\nmax_nodes = 6\n")
    config = read(["--state", str(tmp_path), "--seed", "7"])
    assert (config.seed, config.max_nodes, config.scale) == (7, 6, 1.0)


def test_a_credential_comes_between_file_and_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = tmp_path / "credentials"
    secrets.mkdir()
    (secrets / "config.toml").write_text('alerts = ["webhook+https://host/path#secret"]\nseed = 8\n')
    (tmp_path / "config.toml").write_text("seed = 5\nmax_nodes = 6\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secrets))
    config = read(["--state", str(tmp_path)])
    assert config.alerts == ("webhook+https://host/path#secret",)
    assert (config.seed, config.max_nodes) == (8, 6)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("scale = 0", "scale = 0"),
        ("sede = 1", "unknown setting 'sede'"),
        ("seed = ", "not TOML"),
        ('trace = "/nowhere/at/all"', "does not exist"),
        ("[shares]\nann = 0", "shares: ann = 0"),
        ("[spot_shares]\nann = 1.5", "spot_shares: ann = 1.5"),
        ('[quotas]\n"aws/p5" = "8 gpus"', "no glob over provider/region/shape/market"),
        ('[quotas]\n"aws/*/p5*/spot" = "many"', "768 vcpus"),
        ('aws = "us-east-1"', "aws: must be a table"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        read(["--state", str(tmp_path)])


def test_where_the_state_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "unit"))
    assert read([]).state == tmp_path / "unit"
    monkeypatch.setenv("DSCHED_STATE", str(tmp_path / "mine"))
    assert read([]).state == tmp_path / "mine"
