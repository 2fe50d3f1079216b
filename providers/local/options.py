"""How an embedded cloud is set up."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from dsched.providers.local.tree import Isolation

AGENT = (sys.executable, "-m", "dsched.jobs.agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything but the folder. Seed and traces belong to a folder for good; the rest may change at a restart."""

    seed: int = 1
    scale: float = 1.0  # market time per wall time
    notice_scale: float = 1.0  # notices are this much shorter in wall time than on the real clouds
    silent_share: float = 0.1  # of all interruptions: without notice
    max_nodes: int = 64  # the account's quota; this is one computer
    trace: Path | None = None  # replay this folder in place of the made-up market
    script: Path | None = None  # levers to pull, with their times
    isolation: Isolation | None = (
        None  # how a node's processes are held together; None: as well as this machine permits
    )
    agent: tuple[str, ...] = AGENT  # what runs on a node

    def __post_init__(self) -> None:
        if self.scale <= 0 or self.notice_scale <= 0:
            raise ValueError("scale and notice scale must be above 0")
        if not 0 <= self.silent_share <= 1:
            raise ValueError("the silent share must be between 0 and 1")
        if self.max_nodes < 0 or not self.agent:
            raise ValueError("the quota must not be negative, and the agent's command not empty")

    def arguments(self) -> list[str]:
        """The same set-up for a command line."""
        pairs: list[tuple[str, object]] = [
            ("--seed", self.seed),
            ("--scale", self.scale),
            ("--notice-scale", self.notice_scale),
            ("--silent-share", self.silent_share),
            ("--max-nodes", self.max_nodes),
        ]
        if self.isolation:
            pairs.append(("--isolation", self.isolation))
        pairs += [
            (f"--{name}", path.resolve()) for name, path in (("trace", self.trace), ("script", self.script)) if path
        ]
        return [str(word) for pair in pairs for word in pair] + ["--agent", *self.agent]
