"""A tiny job that checkpoints: rank 0 adds up its steps, and keeps a diary by which a judge can follow it.

    python counting.py DIARY STEPS SECONDS_PER_STEP

The diary is appended to by one write each, so its order is the order in which things happened. Its lines:
`start GENERATION STEP` (restored from that step), `step GENERATION STEP`, `saved GENERATION STEP`,
`end GENERATION TOTAL`, `intruder GENERATION RANK` (a rank of another generation was alive).

Every rank leaves slowly: whoever starts its successor without a proof of its end is found out by the locks.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from dsched.jobs.runtime.contract import EXIT_NEVER_RETRY, EXIT_SAVED, Runtime

EVERY = 5  # steps between checkpoints
LEAVE_S = 0.5  # that a rank still lives after it was told to go: longer than its successor needs to start elsewhere


def main(diary: str, steps: int, pause: float) -> int:
    run = Runtime.from_env()
    folder = Path(urlsplit(run.env.checkpoint).path)
    folder.mkdir(parents=True, exist_ok=True)
    out = os.open(diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(word: str, number: int) -> None:
        os.write(out, f"{word} {run.env.generation} {number}\n".encode())

    if not alone(folder, run.env.generation or 0, run.env.rank):
        write("intruder", run.env.rank)
        return EXIT_NEVER_RETRY
    try:
        return count(run, folder, steps, pause, write) if run.env.rank == 0 else follow(run, folder, steps, pause)
    finally:
        run.close()


def alone(folder: Path, generation: int, rank: int) -> bool:
    """Show that this rank lives, for as long as it does; whether no rank of another generation shows the same."""
    mine = folder / f"alive-{generation}-{rank}"
    fcntl.flock(os.open(mine, os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX)
    others = [path for path in folder.glob("alive-*") if int(path.name.split("-")[1]) != generation]
    return not any(map(held, others))


def held(path: Path) -> bool:
    file = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that look do not see each other
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def count(run: Runtime, folder: Path, steps: int, pause: float, write: Callable[[str, int], None]) -> int:
    step, total = restore(folder)
    write("start", step)
    run.ready(step)
    while step < steps:
        time.sleep(pause)  # the work
        step, total = step + 1, total + step + 1
        write("step", step)
        run.step(step, steps=steps)
        if step % EVERY == 0 or step == steps or run.should_stop:
            save(folder, step, total)
            write("saved", step)
            run.saved(step, uri=folder.as_uri())
        if run.should_stop and step < steps:
            time.sleep(LEAVE_S)
            return EXIT_SAVED
    write("end", total)
    return 0


def follow(run: Runtime, folder: Path, steps: int, pause: float) -> int:
    """Every rank but the first: there until the work is done."""
    while restore(folder)[0] < steps:
        if run.should_stop:
            time.sleep(LEAVE_S)
            return EXIT_SAVED
        time.sleep(pause)
    return 0


def restore(folder: Path) -> tuple[int, int]:
    try:
        step, total = json.loads((folder / "newest").read_text())
    except FileNotFoundError:
        return 0, 0
    return step, total


def save(folder: Path, step: int, total: int) -> None:
    part = folder / "newest.part"
    with part.open("w") as file:
        json.dump([step, total], file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / "newest")


def judge(diary: str, steps: int) -> list[str]:
    """What the diary tells that must not have happened."""
    wrong: list[str] = []
    generation = at = saved = 0
    ended: list[int] = []
    for line in diary.splitlines():
        word, its, number = line.split()[0], int(line.split()[1]), int(line.split()[2])
        if word == "intruder":
            wrong.append(f"rank {number} of generation {its} met a rank of another one alive")
        elif word == "start":
            if its <= generation:
                wrong.append(f"generation {its} started after {generation}")
            if not saved <= number <= at:  # a kill may fall between the commit and its line
                wrong.append(f"generation {its} restored step {number}; saved was {saved}, reached {at}")
            generation, at, saved = its, number, number
        elif its != generation:
            wrong.append(f"generation {its} wrote while {generation} ran: {line}")
        elif word == "step":
            if number != at + 1:
                wrong.append(f"step {number} followed {at}")
            at = number
        elif word == "saved":
            saved = number
        else:
            ended.append(number)
    if set(ended) != {steps * (steps + 1) // 2}:  # again where another rank was killed after the last step
        wrong.append(f"ended with {ended}")
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
