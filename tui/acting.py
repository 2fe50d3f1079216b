"""The keys that change something: find the jobs meant, ask with the money, then do it and say what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from textual import work
from textual.screen import Screen

from dsched.scheduler.view.safe import show
from dsched.scheduler.wire.api import Act, Job
from dsched.tui.question import LISTED_MAX, DryRun, dry_run, question, takes
from dsched.tui.screens.confirm import Confirm
from dsched.tui.session import Session
from dsched.tui.source import SourceError

AT_ONCE: Final = 8  # requests in flight for marked jobs: quick enough, and no burst against the daemon's limit
MIGRATE_MAX: Final = LISTED_MAX  # every job that is moved is shown with its own gain first
_DONE: Final = {"cancel": "cancelling", "pause": "pausing", "resume": "resuming", "migrate": "migrating"}


class Acting(Screen[None]):
    session: Session

    def targets(self) -> list[Job]:
        """The marked jobs, else the one under the cursor."""
        raise NotImplementedError

    def acted(self) -> None:
        """The marks have served."""

    @work(exclusive=True, group="act")
    async def action_act(self, action: str) -> None:
        meant = self.targets()
        jobs = [j for j in meant if takes(action, j)]
        if not jobs:
            self.say(f"nothing to {action}: {_states(meant)}" if meant else "no job is chosen", warn=True)
            return
        if action == "migrate" and len(jobs) > MIGRATE_MAX:
            self.say(f"mark at most {MIGRATE_MAX} jobs to migrate: each is asked for with its gain", warn=True)
            return
        try:
            dry = await self._dry_runs(jobs) if action == "migrate" else None
        except SourceError as error:
            self.say(f"{error.message}  {error.hint}", warn=True)
            return
        if await self.app.push_screen_wait(Confirm(question(action, jobs, dry))):
            await self._do(action, _movable(jobs, dry) if dry is not None else jobs)

    async def _dry_runs(self, jobs: Sequence[Job]) -> dict[str, DryRun]:
        answers = await asyncio.gather(*(self.session.source.act(j["id"], "migrate", {"dry_run": True}) for j in jobs))
        return {j["id"]: dry_run(a) for j, a in zip(jobs, answers, strict=True)}

    async def _do(self, action: str, jobs: Sequence[Job]) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(job: Job) -> str:
            async with gate:
                try:
                    await self.session.source.act(job["id"], action, Act())
                except SourceError as error:
                    return f"{job['id']}: {error.message}"
            return ""

        refused = [r for r in await asyncio.gather(*(one(j) for j in jobs)) if r]
        done = len(jobs) - len(refused)
        if done:
            self.acted()
            self.say(f"{_DONE[action]} {jobs[0]['name'] if len(jobs) == 1 else f'{done} jobs'}")
        if refused:
            self.say(f"{refused[0]}" + (f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""), warn=True)

    def say(self, text: str, *, warn: bool = False) -> None:
        self.app.notify(show(text), severity="warning" if warn else "information", markup=False)


def _movable(jobs: Sequence[Job], dry: dict[str, DryRun]) -> list[Job]:
    return [j for j in jobs if dry[j["id"]].to not in ("", j["where"])]


def _states(jobs: Sequence[Job]) -> str:
    if len(jobs) == 1:
        return f"{jobs[0]['name']} is {jobs[0]['state']}"
    return f"the {len(jobs)} marked jobs are {', '.join(sorted({j['state'] for j in jobs}))}"
