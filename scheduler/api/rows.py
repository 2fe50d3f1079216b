"""Jobs as the wire shows them: functions of state and moment; encoded rows are kept while nothing in them moves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from dsched.scheduler.core.asking import remaining_hours
from dsched.scheduler.core.ledger import open_charge
from dsched.scheduler.core.progress import speed_here, standing
from dsched.scheduler.core.snapshot import Job, Node, Progress, State, live
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, Charge, Instant, Moment, text, to_micro_usd
from dsched.scheduler.wire import api as wire

RECENT_WALL_MS: Final = (
    HOUR  # an ended job stays in the default list so long: a coffee, or the next morning's first look
)
_KEPT_SPARE: Final = 1_024  # encoded rows kept beyond the jobs in memory before the leftovers are swept
_NO_PROGRESS: Final = Progress()
_STEPPING: Final = frozenset({JobState.RUNNING, JobState.DRAINING})
_encode: Final = msgspec.json.Encoder().encode

Held = Mapping[str, Sequence[Node]]  # job -> nodes that it pays for


def held_nodes(state: State) -> Held:
    """Every node by the job that pays for it."""
    held: dict[str, list[Node]] = {}
    for node in state.nodes.values():
        if node.job:
            held.setdefault(node.job, []).append(node)
    return held


def shown(state: State, job: Job, now: Moment) -> bool:
    """Whether the default list has it: unfinished, or ended within the last hour on the wall."""
    if live(job) or job.ended is None:
        return True
    return now.market - job.ended < RECENT_WALL_MS * state.scale


def job_row(state: State, job: Job, now: Moment, held: Held) -> wire.Job:
    mine = held.get(job.id, ())
    here = [state.nodes[name] for name in job.nodes if name in state.nodes]
    progress = state.progress.get(job.id, _NO_PROGRESS)
    step = _step(job, progress)
    steps = job.spec.steps if progress.steps is None else progress.steps
    spent, baseline = _money(state, job, mine, now)
    remaining = _remaining_s(state, job, progress, step, steps, now)
    need = job.spec.need
    stepping = job.state is JobState.RUNNING
    return {
        "id": job.id,
        "name": job.spec.name,
        "user": job.spec.user,
        "state": job.state.value,
        "reason": job.reason,
        "where": _where(state, job, here),
        "next": _next(state, job) if job.next_nodes or not here else "",
        "shape": here[0].pool.shape if here else "",
        "accelerator": _accelerator(state, job, here),
        "gpus": sum(node.gpus for node in here) if here else 0 if need.cpu_only else need.gpus_min,
        "nodes": len(here),
        "generation": job.generation,
        "priority": job.spec.priority,
        "burn": _usd(burn(mine)) if mine else "0.00",
        "spent": _usd(spent),
        "baseline": _usd(baseline),
        "saved": _usd(baseline - spent),
        "step": step,
        "steps": steps,
        "checkpoint_step": job.checkpoint_step,
        "loss": progress.loss,
        "tokens_per_s": progress.tokens_per_s if stepping else None,
        "eta_s": remaining if stepping else None,
        "deadline": job.spec.deadline,
        "slack_s": _slack_s(state, job, remaining, now),
        "moves": job.moves,
        "interruptions": job.interruptions,
        "failures": job.failures,
        "submitted": job.submitted.market,
        "started": job.started,
        "ended": job.ended,
        "exit_code": job.exit_code,
        "decision": job.decision,
        "notice_wall": _notice(here) if here else None,
    }


def _usd(amount: int) -> str:
    """`text`, quick for the zeros of ten thousand jobs that wait."""
    return text(amount) if amount else "0.00"


def _notice(here: Sequence[Node]) -> Instant | None:
    return min((node.notice for node in here if node.notice is not None), default=None)


def burn(nodes: Iterable[Node]) -> int:
    """Micro-dollars per hour of what is metered now."""
    return sum(node.rate for node in nodes if node.metered is not None and node.ended is None)


def _money(state: State, job: Job, mine: Sequence[Node], now: Moment) -> tuple[int, int]:
    """Spent and baseline in micro-dollars, the open intervals included."""
    spent, baseline = job.spent, job.baseline
    for node in mine:
        owed, beside = open_charge(node, _until(node, now))
        spent, baseline = Charge(spent + owed), Charge(baseline + beside)
    return to_micro_usd(spent), to_micro_usd(baseline)


def spent(state: State, job: Job, mine: Sequence[Node], now: Moment) -> int:
    """In micro-dollars, up to now."""
    return _money(state, job, mine, now)[0]


def _until(node: Node, now: Moment) -> Instant:
    return now.market if node.ended is None else node.ended


def _where(state: State, job: Job, here: Sequence[Node]) -> str:
    if here:
        return here[0].pool.id
    attempt = state.attempt(job)
    return attempt.pool if attempt is not None and job.nodes else ""


def _next(state: State, job: Job) -> str:
    """Where it goes: nodes that wait for the old ones' end, or a launch under way."""
    for name in job.next_nodes:
        if name in state.nodes:
            return state.nodes[name].pool.id
    if job.id in state.active:
        for intent in state.intents.values():
            if intent.job == job.id:
                return intent.pool.id
    return ""


def _accelerator(state: State, job: Job, here: Sequence[Node]) -> str:
    offer = state.offers.get(here[0].pool.id) if here else None
    if offer is not None:
        return offer.shape.accelerator.name if offer.shape.accelerator else ""
    return "/".join(job.spec.need.accelerators)


def _step(job: Job, progress: Progress) -> int:
    """Where the work stands: the last step heard while it runs or once it is over, else where it will resume."""
    if job.state in _STEPPING or not live(job):
        return max(progress.step, job.checkpoint_step)
    return job.checkpoint_step


def _remaining_s(state: State, job: Job, progress: Progress, step: int, steps: int | None, now: Moment) -> float | None:
    """Market seconds of work left: by this attempt's pace where it steps, by the user's word before it ever ran."""
    if not live(job):
        return None
    pace = _step_ms(state, job, progress, now)
    if pace is not None and steps:
        return max(0, steps - step) * pace * state.scale / 1e3
    return job.spec.duration / 1e3 if job.spec.duration is not None and job.started is None else None


def _step_ms(state: State, job: Job, progress: Progress, now: Moment) -> float | None:
    """Wall milliseconds per step."""
    if progress.step_ms is not None:
        return progress.step_ms
    attempt = state.attempt(job)
    if attempt is None or attempt.running is None:
        return None
    done = progress.step - (attempt.first_step or 0)
    return (progress.at - attempt.running.wall) / done if done > 0 and progress.at > attempt.running.wall else None


def _slack_s(state: State, job: Job, remaining: float | None, now: Moment) -> float | None:
    """Market seconds to spare at the deadline, by measured speed or at the reference's; None: the work is not known."""
    if job.spec.deadline is None or not live(job):
        return None
    if remaining is None:
        hours = remaining_hours(state, job)
        remaining = None if hours is None else standing(state, job, hours, now, speed_here(state, job)).left
    if remaining is None:
        return None
    return (job.spec.deadline - now.market) / 1e3 - remaining


@dataclass(slots=True)
class JobRows:
    """Encoded rows. A job that holds no node and has no deadline changes only with its own row: it is encoded once."""

    _kept: dict[str, tuple[Job, int, bytes]] = field(default_factory=dict)

    def encoded(self, state: State, job: Job, now: Moment, held: Held) -> bytes:
        if job.id in held or job.id in state.active or (job.spec.deadline is not None and live(job)):
            self._kept.pop(job.id, None)
            return _encode(job_row(state, job, now, held))
        progress = state.progress.get(job.id)
        heard = progress.at if progress is not None else 0
        kept = self._kept.get(job.id)
        if kept is not None and kept[0] is job and kept[1] == heard:
            return kept[2]
        made = _encode(job_row(state, job, now, held))
        self._kept[job.id] = (job, heard, made)
        if len(self._kept) > len(state.jobs) + _KEPT_SPARE:
            self._sweep(state)
        return made

    def _sweep(self, state: State) -> None:
        for name in [name for name in self._kept if name not in state.jobs]:
            del self._kept[name]
