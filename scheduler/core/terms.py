"""The terms on which machines are held and jobs are tried again. Every bound has its reason.

How long a lease lasts is the plan's business, too, since it is set aside before a launch: see placement.Policy.
"""

from __future__ import annotations

from dataclasses import dataclass

from dsched.scheduler.core.units import MINUTE, SECOND, Millis


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """All wall time but the billing minimum."""

    proof_margin: Millis = Millis(5 * SECOND)  # clocks of node and daemon differ by less
    idle_keep: Millis = Millis(2 * MINUTE)  # about the boot that a next job is spared; longer is paid for nothing
    boot_max: Millis = Millis(15 * MINUTE)  # a machine not heard by then is given back
    absent_lists: int = 3  # one list may lag behind the truth; three in a row do not
    silent: Millis = Millis(MINUTE)  # two and a half long polls
    terminate_again: Millis = Millis(5 * SECOND)  # until the provider proves the end; never given up
    launch_again: Millis = Millis(2 * SECOND)  # first repeat of an unanswered launch, doubling
    launch_again_max: Millis = Millis(MINUTE)
    crash_wait: Millis = Millis(SECOND)  # back-off of the job's own failures, doubling
    crash_wait_max: Millis = Millis(MINUTE)
    place_again: Millis = Millis(SECOND)  # after a refusal: the next pool at once would be a herd
    avoid_kept: int = 8  # pools remembered per job as not to be tried first
    notice_margin: Millis = Millis(500)  # SIGKILL ourselves before the cloud does, to report it
    minimum: Millis = Millis(60 * SECOND)  # billing minimum per machine, market time: AWS and GCP both 60 s
