"""The log of one job across all its attempts, followed until the job ends."""

from __future__ import annotations

from textual import work
from textual.app import ComposeResult

from dsched.scheduler.wire.api import Job
from dsched.tui.screens.page import Page
from dsched.tui.source import Source, SourceError
from dsched.tui.widgets.log_view import LogView


class Log(Page):
    CSS = "Log LogView { height: 1fr; }"

    def __init__(self, job: Job, source: Source) -> None:
        super().__init__(f"{job['id']} {job['name']}: log")
        self.job_id, self.source = job["id"], source

    def body(self) -> ComposeResult:
        yield LogView()

    def on_mount(self) -> None:
        self.query_one(LogView).focus()
        self.follow()

    @work(exclusive=True)
    async def follow(self) -> None:
        view = self.query_one(LogView)
        try:
            async for line in self.source.log(self.job_id):
                view.add(line)
            view.say("end of the log")
        except SourceError as error:
            view.say(f"{error.message}  {error.hint}")
