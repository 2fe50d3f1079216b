"""What the demo claims, each claim checked against what the run left: checkpoints, losses, ledger, processes."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path, PurePosixPath

from dsched.jobs.runtime.storage import open_storage
from dsched.jobs.train.losses import FILE_BYTES_MAX, FOLDER
from dsched.scheduler.demo.play import Record, Settings
from dsched.scheduler.view.say import say
from dsched.scheduler.wire.api import Bill, Job


@dataclass(frozen=True, slots=True)
class Claim:
    holds: bool
    text: str


def tell_claims(found: Sequence[Claim]) -> None:
    for claim in found:
        say(f"  {'ok  ' if claim.holds else 'FAIL'} {claim.text}")


def closed(found: Sequence[Claim], folder: Path, *, keep: bool, tell: Callable[[str], object] = say) -> int:
    """A demo's exit: 0 only if every claim held. Its folder goes, unless a claim fell or it is to be kept."""
    good = all(claim.holds for claim in found)
    if good and not keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        tell(f"kept: {folder}")
    return 0 if good else 1


def claims(record: Record, settings: Settings) -> list[Claim]:
    """Every claim of the summary; the demo succeeds when all hold."""
    runs = losses(record.checkpoints)
    straight = losses(record.straight)
    return [
        ended(record.job),
        _struck(record),
        *_resumed(record, runs),
        identical(runs, straight, settings.steps),
        adds_up(record.bill),
        _repriced(record),
        nothing_left(record.left_over),
    ]


def losses(uri: str) -> dict[int, dict[int, str]]:
    """generation -> step -> the loss's exact text, as the job wrote them; on a disk or in a bucket."""
    store = open_storage(uri)
    found: dict[int, dict[int, str]] = {}
    for path in store.list(FOLDER):
        steps = found.setdefault(int(PurePosixPath(path).stem), {})
        for line in store.get(path, FILE_BYTES_MAX).decode("utf-8", "replace").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue  # the last line of a killed process may be cut
            steps[entry["step"]] = repr(entry["loss"])
    return found


def ended(job: Job) -> Claim:
    return Claim(job["state"] == "succeeded", f"the job ended by itself: {job['state']}, {job['reason']}")


def _struck(record: Record) -> Claim:
    nodes = {
        kind: {e["node"] for e in record.events if e["kind"] == kind and e["job"]}
        for kind in ("node.noticed", "node.gone", "node.repriced")
    }
    taken = {e["node"] for e in record.events if e["kind"] == "node.gone" and e["data"].get("by") == "interrupted"}
    noticed, killed, repriced = nodes["node.noticed"], taken - nodes["node.noticed"], nodes["node.repriced"]
    text = f"{len(noticed)} interruptions with notice, {len(killed)} kills without, "
    text += f"price moves on {len(repriced)} machines"
    return Claim(bool(noticed and killed and repriced), text)


def _resumed(record: Record, runs: dict[int, dict[int, str]]) -> list[Claim]:
    """Per interruption: what was computed twice, and that nothing committed was lost."""
    saved = _saved(record)
    found = []
    generations = sorted(runs)
    for old, new in itertools.pairwise(generations):
        last, first = max(runs[old], default=0), min(runs[new], default=0)
        warned = any(a["generation"] == old and a["outcome"].startswith("drained") for a in record.attempts)
        again = last - first + 1
        committed = saved.get(old, 0)
        if warned:
            text = f"after the notice: saved at step {last}, went on at step {first}, {max(0, again)} steps lost"
            found.append(Claim(again == 0, text))
        else:
            text = f"after the kill at step {last}: went on at step {first}, {again} steps computed again, all after "
            text += f"the last committed checkpoint ({committed})"
            found.append(Claim(first > committed, text))
    return found


def _saved(record: Record) -> dict[int, int]:
    """generation -> the newest checkpoint that was reported as committed by its end."""
    saved: dict[int, int] = {}
    newest = 0
    for event in record.events:
        if event["kind"] == "job.checkpointed":
            newest = max(newest, event["data"]["step"])
            saved[event["data"]["generation"]] = newest
    return saved


def identical(runs: dict[int, dict[int, str]], straight: dict[int, dict[int, str]], steps: int) -> Claim:
    reference = {step: loss for run in straight.values() for step, loss in run.items()}
    different = [step for run in runs.values() for step, loss in run.items() if reference.get(step) != loss]
    missing = set(range(1, steps + 1)) - {step for run in runs.values() for step in run}
    good = not different and not missing and len(reference) == steps
    text = (
        f"{steps - len(missing)} of {steps} losses there, {len(different)} differ in any bit from an uninterrupted run"
    )
    return Claim(good, text)


def adds_up(bill: Bill) -> Claim:
    total = sum(Decimal(line["owed"]) for line in bill["lines"])
    # Egress and corrections lie within others; a minimum follows a machine's end, and idle time before it is nobody's.
    hours = [line for line in bill["lines"] if line["kind"] not in ("egress", "correction", "minimum")]
    whole = all(a["end"] == b["start"] for a, b in itertools.pairwise(hours) if a["node"] == b["node"])
    off = abs(total - Decimal(bill["spent"]))
    good = whole and bool(bill["lines"]) and off < Decimal("0.001")
    return Claim(good, f"the bill's {len(bill['lines'])} intervals are gapless and add up to ${bill['spent']}")


def _repriced(record: Record) -> Claim:
    rates: dict[str, set[str]] = {}
    for line in record.bill["lines"]:
        rates.setdefault(line["node"], set()).add(line["rate"])
    split = sum(len(found) > 1 for found in rates.values())
    return Claim(split >= 1, f"{split} machine(s) billed at more than one price, split where the price moved")


def nothing_left(pids: Sequence[int]) -> Claim:
    return Claim(not pids, f"{len(pids)} processes left over")
