"""Workdirs near the machines: each bundle once in the bucket of a cloud, by its hash, and a signed link for the node.

What is asked for is put there in a thread, beside everything else. Until then, and whenever something fails, there is
no link, and nodes fetch from the daemon as they always may; the agent checks the hash, wherever the bytes come from.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dsched.scheduler.log import log

if TYPE_CHECKING:
    from dsched.jobs.runtime.storage import Storage

LINK_S: Final = 3_600  # how long a link is good
FRESH_S: Final = 1_800  # a link that is older is made anew: a node may begin late, and repeat
UPLOADS: Final = 2  # at a time; they are the way of the daemon's host that they share
AGAIN_S: Final = 300.0  # after a failure
PIECE: Final = 8 << 20
KEPT_MAX: Final = 10_000  # links remembered

Key = tuple[str, str]  # place, SHA-256


@dataclass(slots=True)
class Shelf:
    """`places`: cloud -> s3:// or gs:// folder. `bundles`: the daemon's own, by hash."""

    places: Mapping[str, str]
    bundles: Path
    clock: Callable[[], float] = time.monotonic
    _links: dict[Key, tuple[str, float]] = field(default_factory=dict)  # link or "", and when it was made
    _under_way: set[Key] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _turns: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(UPLOADS))

    def link(self, provider: str, sha256: str) -> str:
        """Where a node of this cloud finds the bundle; "": not there (yet). Returns at once."""
        place = self.places.get(provider)
        if not place or not sha256:
            return ""
        key, now = (place, sha256), self.clock()
        with self._lock:
            link, made = self._links.get(key, ("", float("-inf")))
            due = now - made > (FRESH_S if link else AGAIN_S)
            if due and key not in self._under_way:
                self._under_way.add(key)
                threading.Thread(target=self._put, args=(key,), name="shelf", daemon=True).start()
        return link if now - made <= FRESH_S else ""

    def _put(self, key: Key) -> None:
        from dsched.jobs.runtime.storage import StorageError

        link = ""
        try:
            with self._turns:
                link = self._linked(*key)
        except (StorageError, OSError) as error:
            log.warning("shelf.failed", place=key[0], bundle=key[1][:12], error=str(error))
        with self._lock:
            while len(self._links) >= KEPT_MAX:
                del self._links[next(iter(self._links))]
            self._links[key] = (link, self.clock())
            self._under_way.discard(key)

    def _linked(self, place: str, sha256: str) -> str:
        store, path = self._open(place), f"bundles/{sha256}"
        if path not in store.list("bundles"):
            with (self.bundles / sha256).open("rb") as file:
                store.put(path, iter(lambda: file.read(PIECE), b""))
        return store.link(path, LINK_S)

    def _open(self, place: str) -> Storage:
        from dsched.jobs.runtime.storage import open_storage

        return open_storage(place)
