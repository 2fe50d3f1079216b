"""What an installation holds: every package, every data file, and one name only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from dsched.scheduler.cli.main import COMMANDS
from tests.support.checkout import ROOT, TOP, files

SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
BUILD_FILES = ("pyproject.toml", "README.md", "LICENSE")


def ours() -> set[Path]:
    """Every file that belongs into an installation."""
    return {path for path in files() if path.parts[0] in (*TOP, "dsched") and path.suffix != ".md"}


def test_pyproject_lists_every_package_and_no_other() -> None:
    folders = {path.parent for path in files("__init__.py") if path.parts[0] in TOP}
    found = {"dsched"} | {".".join(("dsched", *folder.parts)) for folder in folders}
    assert sorted(SETUP["packages"]) == sorted(found)


def test_no_module_lies_outside_a_package() -> None:
    folders = {path.parent for path in files("__init__.py")}
    assert [path for path in ours() if path.suffix == ".py" and path.parent not in folders] == []


def test_every_top_folder_is_mapped() -> None:
    assert SETUP["package-dir"] == {"dsched": "dsched"} | {f"dsched.{name}": name for name in TOP}


@pytest.mark.parametrize("name", TOP)
def test_nothing_is_importable_under_its_bare_name(name: str, tmp_path: Path) -> None:
    """A training folder's own scheduler.py must not meet ours, nor shadow it."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is not None)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0


def test_every_command_that_is_a_process_names_a_module_that_runs() -> None:
    for entry in COMMANDS:
        if entry.process:
            path = Path(*entry.module.split(".")[1:])
            assert {path.with_suffix(".py"), path / "__main__.py"} & set(files(".py")), entry.module


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a build writes into its source tree."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for path in (*ours(), *map(Path, BUILD_FILES)):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, source / path)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(target)]
    built = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return next(target.glob("dsched-*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_every_file_and_only_our_name(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {str(path) if path.parts[0] == "dsched" else f"dsched/{path}" for path in ours()}
    assert wanted <= names
    assert {name for name in names - wanted if ".dist-info/" not in name} == set()
    for file in ("py.typed", "scheduler/store/schema.sql", "providers/catalog/shapes.toml", "tui/top.tcss"):
        assert f"dsched/{file}" in names


@pytest.mark.slow
def test_the_wheel_runs_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(place)
    environment = os.environ | {"PYTHONPATH": str(place)}

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = "import dsched, dsched.scheduler.core.plan as plan; print(dsched.__file__, plan.__file__)"
    assert all(name.startswith(str(place)) for name in run("-c", where).split())
    assert "demo" in run("-m", "dsched", "--help")
    run("-c", "from dsched.providers import catalog; assert catalog.load()")
    run("-c", "from dsched.scheduler.store.log import Log; Log.in_memory()")
