"""The journal of the market on disk: bounded, readable whatever was torn, and fed by the core's own events."""

from __future__ import annotations

import json
from pathlib import Path

from dsched.scheduler import journal as command
from dsched.scheduler.core.sighting import Sight, Sighting
from dsched.scheduler.core.snapshot import State
from dsched.scheduler.core.units import Instant, Millis
from dsched.scheduler.engine.journal import FOLDER, Journal, files, read
from tests.support.stage import Stage, offer

TEN_MINUTES = Millis(600_000)


def sold(at: int) -> Sighting:
    return Sighting(at=Instant(at), kind=Sight.SOLD, pool="local/a/p5/spot", count=1)


def flush(journal: Journal) -> None:
    journal.append(journal._waiting)
    journal._waiting = []


def test_what_is_written_is_read_again_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    lines = [sold(at) for at in range(5)]
    journal.append(lines)
    assert list(read(tmp_path)) == lines
    assert list(read(tmp_path, since=Instant(3))) == lines[3:]


def test_the_folder_keeps_its_size_and_loses_the_oldest(tmp_path: Path) -> None:
    journal = Journal(tmp_path, file_bytes=100, files=3)
    for at in range(20):
        journal.append([sold(at)])
    assert len(files(tmp_path)) == 3
    kept = [line.at for line in read(tmp_path)]
    assert kept == sorted(kept)
    assert kept[-1] == 19
    assert kept[0] > 0


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    Journal(tmp_path).append([sold(1), sold(2)])
    (torn,) = files(tmp_path)
    torn.write_bytes(torn.read_bytes()[:-9])
    Journal(tmp_path).append([sold(3)])
    assert [line.at for line in read(tmp_path)] == [1, 3]


def test_strange_bytes_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "00000001.jsonl").write_bytes(b'\xff\xfe{\n{"at": "x"}\n[]\n' + b'{"at":7,"kind":"sold","pool":"p"}\n')
    assert [line.at for line in read(tmp_path)] == [7]


def test_a_quote_is_written_once_until_it_moves(tmp_path: Path) -> None:
    journal, state = Journal(tmp_path), State()
    for at, dollars in ((0, 10.0), (1, 10.0), (2, 11.0)):
        state.offers = {(o := offer("us-east-1a", dollars)).pool.id: o}
        journal.look(state, Instant(at))
    flush(journal)
    assert [line.price for line in read(tmp_path) if line.kind is Sight.QUOTE] == [10_000_000, 11_000_000]


def test_the_core_tells_what_it_bought_what_was_refused_and_what_was_taken(tmp_path: Path) -> None:
    journal, stage = Journal(tmp_path), Stage(offer("us-east-1a", 10.0), offer("us-east-1b", 12.0))
    stage.submit()
    stage.refuse()
    stage.wait(1_000)
    stage.hello(*stage.launch())
    stage.started()
    (node,) = stage.state.nodes
    stage.notice(node)
    stage.kill(node)
    journal.hear(stage.events)
    flush(journal)
    seen = [(line.kind, line.pool) for line in read(tmp_path)]
    first, second = "local/us-east-1a/p5.48xlarge/spot", "local/us-east-1b/p5.48xlarge/spot"
    assert seen == [(Sight.REFUSED, first), (Sight.SOLD, second), (Sight.TAKEN, second)]


def test_a_week_of_it_is_exported_as_traces(tmp_path: Path, capsys: object) -> None:
    journal, state = Journal(tmp_path / FOLDER), State()
    for tick in range(6):
        at = Instant(1_700_000_000_000 + tick * TEN_MINUTES)
        o = offer("us-east-1a", 10.0 + tick, free=tick % 3, at=at)
        state.offers = {o.pool.id: o}
        journal.look(state, at)
    flush(journal)
    out = tmp_path / "out"
    assert command.main(["--state", str(tmp_path), "export", str(out)]) == 0
    (file,) = out.glob("*.json")
    trace = json.loads(file.read_text())
    assert trace["schema"] == "dsched.trace/1"
    assert trace["counts_rle"] == [[0, 1], [1, 1], [2, 1], [0, 1], [1, 1], [2, 1]]
    assert trace["start"].startswith("2023-11-14T22:1")
    assert trace["spot_price_series"][0] == 10.0


def test_an_empty_journal_says_so(tmp_path: Path) -> None:
    assert command.main(["--state", str(tmp_path), "export", str(tmp_path / "out")]) == 5
