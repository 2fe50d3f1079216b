"""The virtual table: what it paints, where the cursor stays, and the traps of the toolkit that it steps around."""

from __future__ import annotations

from rich.segment import Segment
from textual.geometry import Region
from textual.scrollbar import ScrollBar
from textual.strip import Strip

from dsched.tui.widgets.virtual_table import RESORT_S, VirtualTable
from tests.tui import fleet
from tests.tui.fake import FakeDaemon, Run, running


def table(run: Run, name: str = "jobs") -> VirtualTable:
    return run.main.tables[name]


def drawn(run: Run, name: str = "jobs") -> set[str]:
    """The rows whose line is kept."""
    return set(table(run, name)._painter.kept)


async def test_only_what_is_on_screen_is_ever_drawn() -> None:
    async with running(FakeDaemon(fleet.snapshot(3_000)), size=(120, 30)) as run:
        assert 15 < len(drawn(run)) <= 30
        hidden = table(run).order.ids[2_000]
        before = dict(table(run)._painter.kept)
        await run.push(fleet.feed([run.app.session.board.jobs[hidden] | {"step": 1}]))  # type: ignore[list-item]
        assert {k: v.strip for k, v in table(run)._painter.kept.items()} == {k: v.strip for k, v in before.items()}


async def test_a_changed_row_on_screen_is_drawn_anew_and_its_neighbours_are_not() -> None:
    async with running() as run:
        ids = table(run).order.ids
        row = run.app.session.board.jobs[ids[2]]
        kept = table(run)._painter.kept[ids[3]].strip
        await run.push(fleet.feed([row | {"name": "renamed"}]))  # type: ignore[list-item]
        assert "renamed" in run.text()
        assert table(run)._painter.kept[ids[3]].strip is kept


async def test_the_chosen_row_keeps_the_cursor_and_its_line_when_the_order_changes() -> None:
    async with running() as run:
        await run.press("j", "j", "j")
        chosen = table(run).current
        top = [run.app.session.board.jobs[i] | {"burn": "0.00"} for i in table(run).order.ids[:2]]
        run.clock.seconds += RESORT_S
        await run.push(fleet.feed(top))  # type: ignore[arg-type]
        assert table(run).current == chosen
        assert table(run).cursor == 1
        run.clock.seconds += RESORT_S
        await run.push(fleet.feed([fleet.job(900 + i, burn="99.00") for i in range(9)]))
        assert (table(run).current, table(run).cursor) == (chosen, 10)
        assert table(run).cursor - table(run).scroll_offset.y == 1


def look(line: Strip) -> tuple[object, ...]:
    """What one cell shows, and what a click on it does."""
    ((text, style, _),) = line
    assert style is not None
    return text, style.bgcolor, style.reverse, style.meta, style.color if text.strip() or style.reverse else None


async def test_the_scroll_bar_looks_like_the_toolkits() -> None:
    async with running(FakeDaemon(fleet.snapshot(3_000)), size=(120, 30)) as run:
        bar = table(run).vertical_scrollbar
        whole = Region(0, 0, *bar.size)
        for _ in range(4):
            await run.press("pagedown", "pagedown", "pagedown")
            lines, theirs = bar.render_lines(whole), ScrollBar.render_lines(bar, whole)
            assert [look(line) for line in lines] == [look(line) for line in theirs]
        assert bar.render_lines(Region(0, 3, 1, 2)) == lines[3:5]


async def test_a_cursor_that_was_never_moved_stays_on_the_first_line() -> None:
    async with running() as run:
        run.clock.seconds += RESORT_S
        await run.push(fleet.feed([fleet.job(900, burn="99.00")]))
        assert (table(run).cursor, table(run).current) == (0, "j900")


async def test_rows_are_sorted_at_most_once_a_second() -> None:
    async with running() as run:
        run.clock.seconds += RESORT_S
        await run.push(fleet.feed([fleet.job(900, burn="99.00")]))
        assert table(run).order.ids[0] == "j900"
        await run.push(fleet.feed([fleet.job(901, burn="199.00")]))
        assert "j901" not in table(run).order.ids
        run.clock.seconds += RESORT_S
        await run.push(fleet.feed([fleet.job(902, burn="1.00")]))
        assert table(run).order.ids[0] == "j901"


async def test_a_row_that_is_gone_leaves_at_once_with_its_mark() -> None:
    async with running() as run:
        await run.press("space")
        first = table(run).order.ids[0]
        assert table(run).marks == {first}
        await run.push(fleet.feed(gone=[first]))
        assert first not in table(run).order.ids
        assert table(run).marks == set()


async def test_a_click_is_handled_once_though_the_toolkit_walks_the_base_classes() -> None:
    async with running() as run:
        orders: list[str] = []
        sort = table(run).sort_by
        table(run).sort_by = lambda c, descending: (orders.append(c.name), sort(c, descending=descending))[1]  # type: ignore[assignment,func-returns-value]
        await run.pilot.click("#jobs", offset=(4, 0))
        assert orders == ["job"]


async def test_a_sort_that_is_due_does_not_fire_into_a_closed_table() -> None:
    async with running() as run:
        run.clock.seconds += RESORT_S
        await run.push(fleet.feed([fleet.job(900, burn="99.00")]))
        await run.push(fleet.feed([fleet.job(901, burn="199.00")]))
        due = table(run)._due
        assert due is not None
        await table(run).remove()
        assert due._task is None or due._task.done() or not due._active.is_set()


async def test_a_tab_that_was_mounted_hidden_has_its_header_when_it_is_shown() -> None:
    async with running() as run:
        await run.press("2")
        assert "PLACE" in run.text()
        assert "$/GPU" in run.text()


async def test_translucent_colours_are_blended_before_they_reach_the_terminal() -> None:
    async with running() as run:
        strip = table(run).render_line(1)
        plain = table(run).render_line(3)
        cursor, other = next(iter(strip)), next(iter(plain))
        assert isinstance(cursor, Segment)
        assert cursor.style is not None
        assert other.style is not None
        full = run.app.theme_variables["primary"].lower()
        assert cursor.style.bgcolor != other.style.bgcolor
        assert cursor.style.bgcolor is not None
        assert cursor.style.bgcolor.name != full
        header = next(iter(table(run).render_line(0))).style
        assert header is not None
        assert header.color is not None
        assert header.color.name != run.app.theme_variables["foreground"].lower()


async def test_cursor_and_marks_are_seen_without_colour() -> None:
    async with running() as run:
        await run.press("space", "k")
        assert any(line.startswith("▸✓") for line in run.text().splitlines())


async def test_no_glyph_fills_its_cell_and_fuses_with_the_row_below() -> None:
    async with running(size=(176, 48)) as run:
        for key in ("1", "2", "3"):
            await run.press(key)
            assert "█" not in run.text().replace("▅", "")


async def test_a_number_wider_than_its_column_widens_it_and_is_never_cut() -> None:
    async with running() as run:
        await run.push(fleet.feed([fleet.job(12, spent="123456789.01", burn="99.00")]))
        run.clock.seconds += RESORT_S
        await run.push(fleet.feed([fleet.job(13, burn="1.00")]))
        await run.until(lambda: "123,456,789.01" in run.text())


async def test_a_click_chooses_a_row_a_second_one_opens_it_and_the_header_sorts() -> None:
    async with running() as run:
        await run.pilot.click("#jobs", offset=(10, 4))
        await run.settle()
        assert table(run).cursor == 3
        await run.pilot.click("#jobs", offset=(10, 0))
        await run.settle()
        column = table(run).sort_column
        assert column is not None
        assert (column.name, table(run).order.descending) == ("name", False)
        await run.pilot.click("#jobs", offset=(10, 0))
        await run.settle()
        assert table(run).order.descending
        await run.pilot.click("#jobs", offset=(10, 4), times=2)
        await run.settle()
        assert run.app.screen is not run.main


async def test_every_movement_key_moves() -> None:
    async with running(FakeDaemon(fleet.snapshot(200)), size=(120, 30)) as run:
        last = len(table(run).order.ids) - 1
        page = table(run).size.height - 2
        for keys, cursor in (
            (["j", "j", "k"], 1),
            (["G"], last),
            (["g"], 0),
            (["ctrl+f"], page),
            (["ctrl+b"], 0),
            (["down", "pagedown"], 1 + page),
            (["end", "home"], 0),
            (["k"], 0),
        ):
            await run.press(*keys)
            assert table(run).cursor == cursor, keys
        assert table(run).scroll_offset.y == 0


async def test_s_sorts_by_the_next_column_and_shift_s_turns_it_round() -> None:
    async with running() as run:
        await run.press("s")
        column = table(run).sort_column
        assert column is not None
        assert (column.name, table(run).order.descending) == ("spent", True)
        await run.press("S")
        assert not table(run).order.descending
        assert "SPENT▴" in run.text()


async def test_an_empty_table_says_what_to_do() -> None:
    async with running(FakeDaemon(fleet.feed([]))) as run:
        assert "no jobs: dsched submit job.yaml" in run.text()


async def test_ages_move_on_with_the_clock_without_any_news() -> None:
    async with running(size=(176, 48)) as run:
        soon = fleet.job(12, state="draining", notice_wall=fleet.WALL + 100_000, burn="99.00")
        run.clock.seconds += RESORT_S
        await run.push(fleet.feed([soon], health=fleet.health(wall=fleet.WALL + 1_000)))
        assert "▲ notice 1m39s" in run.text()
        run.clock.seconds += 30
        run.main.second()
        await run.settle()
        assert "▲ notice 1m09s" in run.text()


async def test_a_resize_lays_the_columns_out_anew() -> None:
    async with running(size=(80, 24)) as run:
        assert "WHERE" not in run.text()
        await run.pilot.resize_terminal(176, 48)
        await run.settle()
        assert "WHERE" in run.text()
        assert "money" in run.text()
        await run.pilot.resize_terminal(40, 10)
        await run.settle()
        lines = run.text().splitlines()
        assert len(lines) == 10
        assert "JOB" in run.text()
