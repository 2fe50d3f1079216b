"""The daemon's part of `dsched doctor`: what only this host can tell, each finding with its fix as a command."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from dsched.providers.base import Finding
from dsched.scheduler.core.snapshot import Orphan, State
from dsched.scheduler.core.units import text
from dsched.scheduler.store.database import linked
from dsched.scheduler.wire.api import Check

NAMED_MAX: Final = 5  # machines that one line names
DISK_LEAST: Final = 1 << 30  # bytes: below that the next checkpoint of a small job may not fit


def checks(state: Path) -> list[Check]:
    return [_sqlite(), _disk(state), _rights(state)]


def providers(found: Mapping[str, Mapping[str, Any]]) -> list[Check]:
    """Whether each cloud answers. While one does not, its machines run on under their leases and nothing new starts."""
    return [_provider(name, told) for name, told in found.items()]


def _provider(name: str, told: Mapping[str, Any]) -> Check:
    label = f"cloud {name}"
    if not told["ok"]:
        return Check(name=label, status="fail", message=told["why"], fix="dsched info")
    return Check(name=label, status="ok", message=f"answers; {told['nodes']} machines are ours", fix="")


class Patient(Protocol):
    """What is looked at of one provider: the engine's observer of it."""

    name: str
    limits_fault: str  # why quotas could not be asked, or ""

    @property
    def ailing(self) -> Mapping[str, str]: ...

    async def examine(self) -> list[Finding]: ...


async def clouds(patients: Iterable[Patient], state: State) -> list[Check]:
    """All of them at once: the slowest takes some seconds, however many there are."""
    known = list(patients)
    found = await asyncio.gather(*(patient.examine() for patient in known))
    lines = [
        line
        for one, told in zip(known, found, strict=True)
        for line in cloud(one.name, told, one.ailing, one.limits_fault)
    ]
    return [*lines, *orphans(state)]


def cloud(name: str, found: Iterable[Finding], ailing: Mapping[str, str], limits_fault: str) -> list[Check]:
    """What a provider found when it looked at itself, and what its calls have met since."""
    lines = [Finding(part, "warn", why, "dsched info") for part, why in ailing.items()]
    if limits_fault:
        lines.append(Finding("quotas", "warn", f"not known: {limits_fault}", f"dsched setup {name}"))
    return [
        Check(name=f"{name} {one.what}", status=one.status, message=one.message, fix=one.fix)
        for one in [*found, *lines]
    ]


def orphans(state: State) -> list[Check]:
    """Machines with our tag that no job claims: ended again and again, and paid for until they are gone."""
    by_provider: dict[str, list[tuple[str, Orphan]]] = {}
    for key, orphan in state.orphans.items():
        by_provider.setdefault(orphan.pool.provider, []).append((key.partition(":")[2], orphan))
    return [_orphans(name, found) for name, found in sorted(by_provider.items())]


def _orphans(name: str, found: list[tuple[str, Orphan]]) -> Check:
    burn = sum(orphan.rate for _, orphan in found)
    refs = ", ".join(ref for ref, _ in found[:NAMED_MAX]) + (" ..." if len(found) > NAMED_MAX else "")
    message = f"{len(found)} machines without a job burn ${text(burn)}/h while they are being ended: {refs}"
    return Check(name=f"orphans {name}", status="warn", message=message, fix=end_of(name, found[0][0]))


def end_of(provider: str, ref: str) -> str:
    """The command that ends a machine by hand."""
    place, _, machine = ref.partition("/")
    if provider == "aws":
        return f"aws ec2 terminate-instances --region {place} --instance-ids {machine}"
    if provider == "gcp":
        return f"gcloud compute instances delete {machine} --zone {place}"
    return "dsched events"


def _sqlite() -> Check:
    found = linked()
    text = f"SQLite {found.version} through {found.module}"
    if found.safe:
        return Check(name="sqlite", status="ok", message=text, fix="")
    text += ": has the WAL-reset bug; one process and one writing connection keep it harmless"
    return Check(name="sqlite", status="warn", message=text, fix="pip install 'pysqlite3>=0.6.1'")


def _disk(state: Path) -> Check:
    free = shutil.disk_usage(state).free
    text = f"{free / (1 << 30):.1f} GiB free under {state}"
    if free >= DISK_LEAST:
        return Check(name="disk", status="ok", message=text, fix="")
    return Check(name="disk", status="fail", message=text, fix=f"du -xsh {state}/* | sort -h")


def _rights(state: Path) -> Check:
    mode = state.stat().st_mode & 0o777
    text = f"{state} has mode {mode:o}"
    if mode & 0o007 == 0:
        return Check(name="state directory", status="ok", message=text, fix="")
    return Check(name="state directory", status="warn", message=text + ": others may read it", fix=f"chmod o= {state}")
