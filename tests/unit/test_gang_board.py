"""The board of a gang: who is slow is waited for, who is gone is not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("torch")

from dsched.jobs.runtime.contract import Environment
from dsched.jobs.runtime.elastic import Board, _store
from dsched.jobs.runtime.gang import PeerLost, led
from dsched.scheduler.demo.training.gang import free_port
from tests.support.house import wait_for

SLOW_S = 2.0  # its pulse is six times faster


def seats() -> list[Environment]:
    port = free_port()
    return [Environment(job="j", generation=1, rank=rank, world_size=2, master_port=port) for rank in (0, 1)]


def test_a_rank_that_takes_long_is_waited_for_while_it_is_alive(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dsched.gang")
    places = seats()
    store = _store(places[0], serve=True)
    boards = [Board(each, silence_s=SLOW_S) for each in places]

    def carry() -> str:
        wait_for(lambda: "rank 0 takes its time, and is alive" in caplog.text, "the other rank's patience")
        return "carried"

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda board: led(board, carry, {}), boards)) == ["carried"] * 2
        list(pool.map(Board.close, boards))
    del store


def test_a_rank_without_a_pulse_is_lost() -> None:
    places = seats()
    store = _store(places[0], serve=True)
    board = Board(places[1], silence_s=0.2)
    with pytest.raises(PeerLost):
        board.exchange("is anybody there")
    board.close()
    del store
