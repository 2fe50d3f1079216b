"""How the daemon ends, which tells systemd what to do next."""

from __future__ import annotations

import pytest

from dsched.scheduler import daemon
from dsched.scheduler.api.serve import SocketTaken
from dsched.scheduler.store.errors import StoreFailed


@pytest.mark.parametrize(
    ("causes", "status"),
    [
        ([StoreFailed("state.db", "disk full")], daemon.EXIT_AGAIN),
        ([RuntimeError("a fault of ours"), StoreFailed("state.db", "disk full")], daemon.EXIT_AGAIN),
        ([RuntimeError("a fault of ours")], daemon.EXIT_FAULT),
        ([SocketTaken("another daemon answers")], daemon.EXIT_PERSON),
    ],
)
def test_an_end_says_whether_to_start_again(causes: list[BaseException], status: int) -> None:
    assert daemon._status(causes) == status


def test_only_a_person_is_waited_for() -> None:
    assert (daemon.EXIT_AGAIN, daemon.EXIT_FAULT, daemon.EXIT_PERSON) == (75, 70, 1)  # as the unit and the pages say
