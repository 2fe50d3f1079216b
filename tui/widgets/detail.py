"""One job in full: state, place and its price line, deadline, money, attempts and last events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from textual.content import Content

from dsched.scheduler.core.units import Moment
from dsched.scheduler.view import format as f
from dsched.scheduler.view.jobs import job_done, job_state
from dsched.scheduler.view.market import offer_off
from dsched.scheduler.view.safe import show
from dsched.scheduler.wire.api import Attempt, Event, Job, Offer
from dsched.tui.view import STYLES, Part
from dsched.tui.widgets.line import Lines
from dsched.tui.widgets.spark import spark

Line = list[Part]

ATTEMPTS_SHOWN: Final = 6
EVENTS_SHOWN: Final = 8
_DIM: Final = STYLES["dim"]


@dataclass(frozen=True, slots=True)
class Story:
    """What the feed does not carry of a job."""

    attempts: Sequence[Attempt] = ()
    events: Sequence[Event] = ()


def detail(job: Job, story: Story, offer: Offer | None, now: Moment, width: int) -> Content:
    lines: list[Line] = [
        [(f"{show(job['id'])} ", _DIM), (show(job["name"], max(8, width - 8)), "bold $text-accent")],
        *_state(job, now, width),
        [],
        *_place(job, offer, width),
        [],
        *_money(job),
        *_attempts(story.attempts, now),
        *_events(story.events),
    ]
    parts: list[Part] = []
    for line in lines:
        parts += [*line, ("\n", "")]
    return Content.assemble(*parts[:-1])


def _state(job: Job, now: Moment, width: int) -> list[Line]:
    word = job_state(job)
    lines: list[Line] = [
        [
            (f.state(word), f"bold {STYLES[f.tone(word)]}"),
            (f"  {f.gpus(job['gpus'], job['accelerator'])}", ""),
            (f"  {job['nodes']} node{'' if job['nodes'] == 1 else 's'}, attempt {job['generation']}", _DIM),
        ]
    ]
    if job["notice_wall"] is not None:
        left = f.duration(max(0, job["notice_wall"] - now.wall) / 1000)
        lines.append([(f"▲ the cloud takes it back in {left}", STYLES["warn"])])
    if job["reason"]:
        waits = job["state"] in ("held", "failed", "queued")
        lines.append([(show(job["reason"]), STYLES["warn" if waits else "dim"])])
    done = job_done(job)
    if done is not None:
        share = f.percent(done)
        bar = f.bar(done, max(4, width - len(share) - 1))
        filled = bar.rstrip("─")
        lines.append([(filled, STYLES["good"]), (bar[len(filled) :], "$foreground 35%"), (f" {share}", "")])
    steps = f"step {job['step']:,}" + (f" of {job['steps']:,}" if job["steps"] else "")
    loss = "" if job["loss"] is None else f"   loss {job['loss']:.3f}"
    speed = "" if job["tokens_per_s"] is None else f"   {f.short(job['tokens_per_s'])} tok/s"
    lines.append([(steps + loss, "")])
    lines.append([(f"saved at step {job['checkpoint_step']:,}{speed}", _DIM)])
    lines += _deadline(job, now)
    return lines


def _deadline(job: Job, now: Moment) -> list[Line]:
    eta: Line = [("done in ", _DIM), (f.duration(job["eta_s"]), "bold")]
    if job["deadline"] is None:
        return [[*eta, ("   no deadline", _DIM)]]
    parts: Line = [("deadline ", _DIM), (f.clock(job["deadline"], now.market), "")]
    slack = job["slack_s"]
    if slack is not None:
        late = slack < 0
        text = f"  {f.duration(-slack)} late" if late else f"  {f.duration(slack)} slack"
        parts.append((text, STYLES["bad" if late else "warn" if slack < 3_600 else "good"]))
    return [eta, parts]


def _place(job: Job, offer: Offer | None, width: int) -> list[Line]:
    lines: list[Line] = [[("place", _DIM)], [(f.place(job["where"]), "")]]
    if job["next"]:
        lines.append([(f"⇄ moves to {f.place(job['next'])}", STYLES["warn"])])
    if offer is None:
        return lines
    price: Line = [(f"{f.dollars(offer['price'])}/h", "bold"), (f"  on-demand {f.dollars(offer['on_demand'])}", _DIM)]
    if off := offer_off(offer):
        price.append((f"  {f.percent(-off)}", STYLES["good" if off > 0 else "warn"]))
    lines.append(price)
    if history := offer["history"]:
        lines.append([(spark(history, width, low=0.0, high=float(offer["on_demand"] or 0) or None), "$text-accent")])
        lines.append([(f"24 h  {min(history):,.2f} .. {max(history):,.2f} $/h", _DIM)])
    lines.append([(f"interruptions {f.percent(offer['hazard'])}/h   quoted {f.age(offer['age_s'])} ago", _DIM)])
    return lines


def _money(job: Job) -> list[Line]:
    saved = Decimal(job["saved"])
    share = f.percent(f.saved_share(job["saved"], job["baseline"]))
    return [
        [("money", _DIM)],
        [("spent ", ""), (f.dollars(job["spent"]), "bold"), (f"   burn {f.dollars(job['burn'])}/h", "")],
        [
            ("saved ", ""),
            (f"{f.dollars(job['saved'])}  {share}", STYLES["good" if saved > 0 else "warn" if saved < 0 else ""]),
            (" against on-demand", _DIM),
        ],
        [(_count(job["moves"], "move"), ""), (f", {_count(job['interruptions'], 'interruption')}", "")],
    ]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _attempts(attempts: Sequence[Attempt], now: Moment) -> list[Line]:
    if not attempts:
        return []
    lines: list[Line] = [[], [("attempts", _DIM)]]
    for attempt in reversed(attempts[-ATTEMPTS_SHOWN:]):
        running = attempt["ended"] is None
        end = now.market if attempt["ended"] is None else attempt["ended"]
        lasted = f.duration((end - attempt["running"]) / 1000) if attempt["running"] is not None else f.UNKNOWN
        how = f.state("running") if running else show(attempt["outcome"], 40)
        tone = STYLES["good" if running or attempt["outcome"] == "succeeded" else "warn"]
        lines.append([(f"{attempt['generation']:>3} ", _DIM), (f"{f.place(attempt['where'])}", "")])
        lines.append([(f"    {lasted:>6}  ", _DIM), (how, tone)])
    if len(attempts) > ATTEMPTS_SHOWN:
        lines.append([(f"    and {len(attempts) - ATTEMPTS_SHOWN} before", _DIM)])
    return lines


def _events(events: Sequence[Event]) -> list[Line]:
    if not events:
        return []
    lines: list[Line] = [[], [("last events", _DIM)]]
    for event in reversed(events[-EVENTS_SHOWN:]):
        text = show(event["why"] or event["kind"])
        lines.append([(f"{f.second(event['wall'])} ", _DIM), (text, "")])
    return lines


class Detail(Lines):
    """Beside the table where the screen is wide."""

    DEFAULT_CSS = """
    Detail { width: 46; height: 100%; border: round $primary 40%; border-title-color: $text-accent; padding: 0 1;
        display: none; }
    """

    def on_mount(self) -> None:
        self.border_title = "job"  # the same for all: a new title would repaint the whole panel
