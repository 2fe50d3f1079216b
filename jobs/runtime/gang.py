"""What the ranks of a gang tell each other besides numbers: who has written what, and how it ended. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

Failures = Mapping[str, type[Exception]]  # by name: what may travel from one rank to the others


class PeerLost(Exception):
    """A rank of this generation is gone, or never came. Next: exit 76, the scheduler starts the next generation."""


class Gang(Protocol):
    """All ranks of one generation. Every one of them makes the same calls in the same order."""

    rank: int

    def exchange(self, text: str) -> list[str]:
        """Every rank's text, by rank. Raises PeerLost."""


class Alone:
    """A gang of one."""

    rank = 0

    def exchange(self, text: str) -> list[str]:
        return [text]


ALONE: Final = Alone()


def together(gang: Gang, action: Callable[[], Any], failures: Failures) -> list[Any]:
    """Each rank does its part; what all of them got (as JSON), or the first rank's failure raised on every rank.

    A failure of a class that `failures` does not name stays its own rank's, whose end the others will notice.
    """
    return [_open(text, failures) for text in gang.exchange(_seal(action, failures))]


def led(gang: Gang, action: Callable[[], Any], failures: Failures) -> Any:
    """Rank 0 does it for all of them; its result or its failure on every rank."""
    mine = _seal(action, failures) if gang.rank == 0 else ""
    return _open(gang.exchange(mine)[0], failures)


def _seal(action: Callable[[], Any], failures: Failures) -> str:
    try:
        return json.dumps({"value": action()})
    except tuple(failures.values()) as e:
        name = next(name for name, kind in failures.items() if isinstance(e, kind))
        return json.dumps({"failure": name, "text": str(e)})


def _open(text: str, failures: Failures) -> Any:
    body = json.loads(text)
    if "failure" in body:
        raise failures[body["failure"]](body["text"])
    return body["value"]
