"""Every number this project claims, in one run and one table: `make bench`, or

    .venv/bin/python bench/run.py [--quick] [--json NAME] [section ...]

Sections are the scripts beside this one; each prints what it measures as it goes, and what has a goal comes together in
the table at the end. A goal missed is said, not punished: the machine may be busy with something else. Exit 1 when a
section broke.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

BENCH: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent))

from bench.figure import FILE, Figure, handed_over, table  # noqa: E402
from bench.machine import Machine  # noqa: E402

LIMIT_S: Final = 300  # for one section; the longest takes two minutes on a quiet machine
# section -> its arguments in a full run, and in a quick one; None: left out
SECTIONS: Final[dict[str, tuple[list[str], list[str] | None]]] = {
    "daemon": ([], ["--quick"]),
    "store": (["--seconds", "2"], ["--seconds", "0.5"]),
    "plan": ([], None),
    "simulate": (["--quick"], None),
    "agent": (["12"], None),
    "checkpoint": (["--rounds", "3", "--starts", "3"], None),
    "training": ([], None),
    "cli": ([], []),
    "api": (["2"], ["0.5"]),
    "aws": ([], None),
    "gcp": ([], None),
    "clouds": ([], None),
    "tui": (["--seconds", "10"], None),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of: {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter, under two minutes")
    parser.add_argument("--json", metavar="NAME", help="write bench/results/NAME.json too")
    wanted = parser.parse_args()
    unknown = set(wanted.sections) - SECTIONS.keys()
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    with tempfile.TemporaryDirectory(prefix="dsched-bench-") as folder:
        before = Machine.now(Path(folder))
        found, broken = measure(wanted.sections or list(SECTIONS), Path(folder) / "figures", quick=wanted.quick)
        after = Machine.now(Path(folder))
    print(f"\n{table(found)}\n\nbefore: {before}\nafter:  {after}")
    if wanted.json:
        write(BENCH / "results" / f"{wanted.json}.json", found, before, after)
    missed = [figure.name.strip() for figure in found if figure.met is False]
    print(f"{len(missed)} of {sum(figure.goal is not None for figure in found)} goals missed")
    for name in broken:
        print(f"section {name} did not end well")
    return 1 if broken else 0


def measure(sections: list[str], figures: Path, *, quick: bool) -> tuple[list[Figure], list[str]]:
    """The figures in the order of the sections, and the sections that failed."""
    broken = []
    for name in sections:
        full, short = SECTIONS[name]
        arguments = short if quick else full
        if arguments is None:
            continue
        print(f"\n== {name}", flush=True)
        began, known = time.monotonic(), len(handed_over(figures))
        command = [sys.executable, str(BENCH / f"{name}.py"), *arguments]
        try:
            code = subprocess.run(
                command, env=os.environ | {FILE: str(figures)}, timeout=LIMIT_S, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = 124
        if code and len(handed_over(figures)) == known:  # some also exit 1 for a goal missed, with figures
            broken.append(name)
        print(f"-- {name}: {time.monotonic() - began:.0f} s", flush=True)
    return handed_over(figures), broken


def write(path: Path, figures: list[Figure], before: Machine, after: Machine) -> None:
    path.parent.mkdir(exist_ok=True)
    told = {
        "version": 1,
        "machine": {"before": asdict(before), "after": asdict(after)},
        "figures": [asdict(figure) | {"met": figure.met} for figure in figures],
    }
    path.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
