"""The main screen: status, cards, tabs with a table each, detail beside it, ticker, keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, cast

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.timer import Timer
from textual.widgets import ContentSwitcher, Footer, Input, Static

from dsched.scheduler.view.column import standard
from dsched.scheduler.view.columns import EVENTS, JOBS, OFFERS
from dsched.scheduler.view.safe import show
from dsched.scheduler.wire.api import Event, Job
from dsched.tui import view
from dsched.tui.acting import Acting
from dsched.tui.board import Changed
from dsched.tui.feed import Link
from dsched.tui.keys import ALWAYS, CHANGES, MAIN, OF_JOBS
from dsched.tui.screens import help as help_text
from dsched.tui.screens.explain import Explain
from dsched.tui.screens.log import Log
from dsched.tui.screens.page import TextPage
from dsched.tui.session import Session
from dsched.tui.source import SourceError
from dsched.tui.widgets.absent import Absent, absent
from dsched.tui.widgets.cards import Cards
from dsched.tui.widgets.detail import Detail, Story, detail
from dsched.tui.widgets.filter_bar import FilterBar
from dsched.tui.widgets.status_line import StatusLine, status
from dsched.tui.widgets.tabs import Tabs
from dsched.tui.widgets.ticker import Ticker, tick
from dsched.tui.widgets.virtual_table import VirtualTable

FIELDS: Final[Mapping[str, view.Fields]] = {
    "jobs": view.JOB_FIELDS,
    "market": view.OFFER_FIELDS,
    "events": view.EVENT_FIELDS,
}
STORY_S: Final = 0.15  # the cursor rests this long before its job's story is asked for
REST_S: Final = 0.12  # the cursor rests this long before the panel beside it is drawn anew: not while pages are turned
EVENTS_OF_JOB: Final = 20


class Main(Acting):
    BINDINGS: ClassVar[list[BindingType]] = [*MAIN]
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - an instance variable of the base class
        (0, "-narrow"),
        (100, "-normal"),
        (150, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-short"),
        (28, "-tall"),
    ]

    def __init__(self, session: Session, link: Callable[[], Link], thaw: Callable[[], None]) -> None:
        super().__init__(classes="-unknown")
        self.session, self._link, self._thaw = session, link, thaw
        board, now, clock = session.board, session.now, session.clock
        self.tables = {
            "jobs": VirtualTable(
                standard(JOBS), board.jobs, now=now, sort="burn", descending=True, clock=clock, id="jobs",
                empty="no jobs: dsched submit job.yaml",
            ),
            "market": VirtualTable(
                standard(OFFERS), board.offers, now=now, sort="per_gpu", clock=clock, id="market",
                empty="no offers: dsched doctor",
            ),
            "events": VirtualTable(
                standard(EVENTS), board.events, now=now, sort="seq", descending=True, clock=clock, id="events",
                empty="no events yet",
            ),
        }  # fmt: skip
        self.tab = "jobs"
        self.filters: dict[str, str] = {}
        self.wide = False
        self._tries = 0
        self._story: tuple[str, tuple[Any, ...], Story] = ("", (), Story())
        self._story_due: Timer | None = None
        self._resting: Timer | None = None
        self._page: tuple[TextPage, str] | None = None
        self._last: Event | None = None

    def compose(self) -> ComposeResult:
        self.status_line, self.cards, self.tabs, self.detail = StatusLine(), Cards(), Tabs(), Detail()
        self.absent, self.ticker, self.bar = Absent(), Ticker(), FilterBar()
        yield self.status_line
        yield self.cards
        yield self.tabs
        with ContentSwitcher(initial="jobs-tab"):
            with Horizontal(id="jobs-tab"):
                yield self.tables["jobs"]
                yield self.detail
            yield self.tables["market"]
            yield self.tables["events"]
        yield self.absent
        yield Static(id="problem")
        yield self.bar
        yield self.ticker
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.set_interval(1.0, self.second)
        self.linked()

    def on_resize(self) -> None:
        self.call_after_refresh(self.second)  # once the new sizes are known

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in CHANGES and self.session.readonly:
            return False
        if not self.session.board.known and action not in ALWAYS and any(b.action.startswith(action) for b in MAIN):
            return False
        return not (action in OF_JOBS and self.tab != "jobs")

    # What the app tells.

    def linked(self) -> None:
        link = self._link()
        self._tries += link.state == "lost"
        self.draw_status()
        if not self.session.board.known:
            self.absent.update(absent(link, self.session.source.address, self._tries))

    def apply(self, changed: Changed) -> None:
        if self.has_class("-unknown"):
            self.remove_class("-unknown")
            self.refresh_bindings()
            self.tables[self.tab].focus()
        for tab, ids in (("jobs", changed.jobs), ("market", changed.offers), ("events", changed.events)):
            table = self.tables[tab]
            if changed.whole:
                table.reload()
            elif ids:
                table.changed(ids)
        if changed.whole:
            self.second()
        if changed.events:
            self.draw_ticker()

    def second(self) -> None:
        """What changes with time, not with news."""
        self.draw_status()
        if self.session.frozen or not self.session.board.known:
            return
        self.session.board.sample_burn(self.session.clock())
        self.tables[self.tab].age()
        self.draw_tabs()
        self.cards.draw(self.session.board)
        self.draw_detail()

    # Drawing.

    def draw_status(self) -> None:
        text = status(
            self._link(), self.session.board.health, address=self.session.source.address, now=self.session.clock(),
            width=self.size.width, frozen=self.session.frozen, readonly=self.session.readonly,
        )  # fmt: skip
        self.status_line.draw(text)

    def draw_tabs(self) -> None:
        counts = {}
        for tab, table in self.tables.items():
            shown, there = len(table.order.ids), len(table.rows)
            counts[tab] = f"{there:,}" if shown == there else f"{shown:,} of {there:,}"
        note = show(self.filters.get(self.tab, ""))
        self.tabs.show(self.tab, counts, note)

    def draw_ticker(self) -> None:
        events_ = self.session.board.events
        last = events_[next(reversed(events_))] if events_ else None
        if last is not self._last:
            self._last = last
            self.ticker.draw(tick(last))

    def job(self) -> Job | None:
        row_id = self.tables["jobs"].current
        return self.session.board.jobs.get(row_id) if row_id is not None else None

    def draw_detail(self) -> None:
        if self._page is not None:
            page, job_id = self._page
            if (job := self.session.board.jobs.get(job_id)) is not None and page.is_mounted:
                page.text.update(self._detail(job, page.size.width - 4))
        job = self.job()
        if job is not None and self.detail.display and self.tab == "jobs":
            self._ask_story(job)
            self.detail.draw(self._detail(job, self.detail.size.width - 4))

    def _detail(self, job: Job, width: int) -> Content:
        told, _, story = self._story
        board = self.session.board
        return detail(
            job, story if told == job["id"] else Story(), board.offers.get(job["where"]), self.session.now(), width
        )

    def _ask_story(self, job: Job) -> None:
        """Once per job and turn of its life, when the cursor rests."""
        version = (job["generation"], job["state"], job["moves"], job["notice_wall"])
        if self._story[:2] != (job["id"], version) and self._story_due is None:
            self._story_due = self.set_timer(STORY_S, lambda: self._fetch_story(job["id"], version))

    def _fetch_story(self, job_id: str, version: tuple[Any, ...]) -> None:
        self._story_due = None
        self._story = (job_id, version, self._story[2] if self._story[0] == job_id else Story())
        self.run_worker(self._tell_story(job_id, version), group="story", exclusive=True)

    async def _tell_story(self, job_id: str, version: tuple[Any, ...]) -> None:
        source = self.session.source
        try:
            story = Story(await source.attempts(job_id), await source.events(job_id, EVENTS_OF_JOB))
        except SourceError:
            return  # the status line says that the daemon is gone; the next turn asks again
        self._story = (job_id, version, story)
        self.draw_detail()

    # Tables.

    @on(VirtualTable.Moved, "#jobs")
    def moved(self) -> None:
        """The panel follows when the cursor rests, so that a held key moves the cursor alone."""
        if self._resting is not None:
            self._resting.stop()
        self._resting = self.set_timer(REST_S, self.draw_detail)

    @on(VirtualTable.Ordered)
    def ordered(self) -> None:
        self.draw_tabs()

    @on(VirtualTable.Selected)
    def selected(self, event: VirtualTable.Selected) -> None:
        if event.row_id is None:
            return
        if event.table.id == "jobs":
            self.action_open()
        elif event.table.id == "events" and (job := self.session.board.events[event.row_id]["job"]):
            self.action_tab("jobs")
            self.tables["jobs"].go(job)

    @on(Tabs.Chosen)
    def chosen(self, event: Tabs.Chosen) -> None:
        self.action_tab(event.tab)

    def targets(self) -> list[Job]:
        jobs, marks = self.session.board.jobs, self.tables["jobs"].marks
        marked = [jobs[i] for i in self.tables["jobs"].order.ids if i in marks]
        current = self.job()
        return marked or ([current] if current is not None else [])

    def acted(self) -> None:
        self.tables["jobs"].unmark()

    # Filter.

    @on(Input.Changed, "#filter")
    def typed(self, event: Input.Changed) -> None:
        problem = self.query_one("#problem", Static)
        try:
            keep = view.parse(event.value, FIELDS[self.tab])
        except view.FilterError as error:
            problem.update(Content(f"▲ {show(str(error))}"))
            problem.add_class("-on")
            return
        problem.remove_class("-on")
        self.filters[self.tab] = event.value.strip()  # "" is no filter
        self.tables[self.tab].filter(keep)

    @on(Input.Submitted, "#filter")
    def close_filter(self) -> None:
        self.bar.remove_class("-on")
        self.query_one("#problem").remove_class("-on")
        self.tables[self.tab].focus()

    @on(FilterBar.Left)
    def left(self, event: FilterBar.Left) -> None:
        self.clear_filter()
        self.close_filter()
        if event.key:
            self.press_again(event.key)

    def clear_filter(self) -> None:
        self.bar.value = ""
        self.filters[self.tab] = ""
        self.tables[self.tab].filter(None)

    def on_key(self, event: events.Key) -> None:
        """Escape and a key right after it reach us as Alt + key: they mean both."""
        if event.key.startswith("alt+"):
            event.stop()
            self.action_back()
            self.press_again(event.key.removeprefix("alt+"))

    def press_again(self, key: str) -> None:
        """Later, when the table has the focus, and by the app: a key of our own would not bubble past us."""
        self.app.call_later(self.app.simulate_key, key)

    # Keys.

    def action_tab(self, tab: str) -> None:
        self.tab = tab
        self.query_one(ContentSwitcher).current = "jobs-tab" if tab == "jobs" else tab
        self.close_filter()
        self.draw_tabs()
        self.refresh_bindings()

    def action_filter(self) -> None:
        self.bar.value = self.filters.get(self.tab, "")
        self.bar.add_class("-on")
        self.bar.focus()

    def action_back(self) -> None:
        table = self.tables[self.tab]
        if self.filters.get(self.tab):
            self.clear_filter()
        elif table.marks:
            table.unmark()
        elif self.session.frozen:
            self.action_freeze()

    def action_freeze(self) -> None:
        self.session.frozen = not self.session.frozen
        if not self.session.frozen:
            self._thaw()
        self.draw_status()

    def action_wide(self) -> None:
        self.wide = not self.wide
        self.tables["jobs"].show_columns(standard(JOBS, wide=self.wide))

    def action_theme(self) -> None:
        names = cast("list[str]", list(self.app.available_themes))
        self.app.theme = names[(names.index(self.app.theme) + 1) % len(names)]
        self.say(f"theme {self.app.theme}")

    def action_palette(self) -> None:
        self.app.action_command_palette()

    def action_help(self) -> None:
        self.app.push_screen(TextPage("keys and filter", help_text.text(self.active_bindings)))

    def action_open(self) -> None:
        if (job := self.job()) is None:
            return
        self._ask_story(job)
        page = TextPage(f"{job['id']} {job['name']}", self._detail(job, self.size.width - 4))
        self._page = (page, job["id"])
        self.app.push_screen(page, lambda _: self._close_page())

    def _close_page(self) -> None:
        self._page = None

    def action_log(self) -> None:
        if (job := self.job()) is not None:
            self.app.push_screen(Log(job, self.session.source))

    def action_explain(self) -> None:
        if (job := self.job()) is not None:
            self.run_worker(self._explain(job), group="explain", exclusive=True)

    async def _explain(self, job: Job) -> None:
        try:
            plans = await self.session.source.explain(job["id"])
        except SourceError as error:
            self.say(f"{error.message}  {error.hint}", warn=True)
            return
        if plans:
            self.app.push_screen(Explain(job, plans, self.session.now))
        else:
            self.say("no plan is stored for this job yet", warn=True)
