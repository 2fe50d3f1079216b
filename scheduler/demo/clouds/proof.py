"""What the demo of two clouds claims, each claim checked against what clouds, daemon, machines and buckets saw."""

from __future__ import annotations

from typing import Final

from dsched.scheduler.bringup.script import BYTES_MAX
from dsched.scheduler.demo.clouds.play import Record
from dsched.scheduler.demo.play import Settings
from dsched.scheduler.demo.proof import Claim, adds_up, ended, identical, losses, nothing_left

ASKED_SECONDS: Final = 2.0  # from EC2's warning to the call that buys the replacement, the promise


def claims(record: Record, settings: Settings) -> list[Claim]:
    """The demo succeeds when all hold."""
    return [
        ended(record.job),
        _moved(record),
        _brought_up(record),
        _heard_on_the_node(record),
        _heard_from_the_queue(record),
        _asked_in_time(record),
        _nothing_lost(record),
        identical(_by_generation(record), losses(record.straight), settings.steps),
        _egress(record),
        adds_up(record.bill),
        Claim(record.seen["left"] == 0, f"{record.seen['left']} machines left in the clouds"),
        nothing_left(record.left_over),
    ]


def _moved(record: Record) -> Claim:
    places = [attempt["where"] for attempt in record.attempts]
    bought = f"{record.seen['aws_launches']} launch at AWS, {len(record.seen['gcp_launches'])} at Google"
    good = [place.partition("/")[0] for place in places] == ["aws", "gcp"]
    return Claim(good, f"ran on {', then on '.join(places)}; {bought}")


def _brought_up(record: Record) -> Claim:
    sizes, homes = record.user_data, set(record.tls)
    good = len(sizes) == 2 and max(sizes) <= BYTES_MAX and len(record.tls) == 2
    good = good and all(home.startswith("https://") for home in homes)
    text = (
        f"{len(sizes)} machines came up from user-data of {max(sizes, default=0)} bytes and called {', '.join(homes)}"
    )
    return Claim(good, text)


def _heard_on_the_node(record: Record) -> Claim:
    heard = record.seen["metadata_heard"]
    took = None if heard is None else heard - record.warned["at"]
    told = any(event["kind"] == "node.noticed" and "metadata service" in event["why"] for event in record.events)
    after = "never" if took is None else f"{took:.2f} s after it"
    return Claim(took is not None and told, f"the node read the warning from its metadata service {after}, and told")


def _heard_from_the_queue(record: Record) -> Claim:
    read = record.seen["queue_read"]
    told = any(record.warned["machine"] in machine for machine in record.hints)
    after = "never" if read is None else f"{read - record.warned['at']:.2f} s after it"
    behind = f"the demo lets events be {record.warned['event_s']:g} s late"
    return Claim(read is not None and told, f"the daemon took the warning from the queue (SQS) {after}; {behind}")


def _asked_in_time(record: Record) -> Claim:
    took = min((at - record.warned["at"] for at in record.seen["gcp_launches"]), default=None)
    text = "no replacement was asked for" if took is None else f"the replacement was asked for {took:.2f} s after it"
    return Claim(took is not None and 0 <= took <= ASKED_SECONDS, f"{text} (at most {ASKED_SECONDS:g} s)")


def _nothing_lost(record: Record) -> Claim:
    """The first run is in the one bucket, the second in the other: its checkpoint was carried there."""
    before = max((step for run in record.runs["aws"].values() for step in run), default=0)
    after = min((step for run in record.runs["gcp"].values() for step in run), default=0)
    lost = before - after + 1
    text = f"saved at step {before} to S3, went on at step {after} from Cloud Storage: {max(0, lost)} steps lost"
    return Claim(before > 0 and after > 0 and lost == 0, text)


def _by_generation(record: Record) -> dict[int, dict[int, str]]:
    return {generation: run for runs in record.runs.values() for generation, run in runs.items()}


def _egress(record: Record) -> Claim:
    lines = [line for line in record.bill["lines"] if line["kind"] == "egress"]
    owed = sum(float(line["owed"]) for line in lines)
    source = lines[0]["source"] if lines else "nothing was booked"
    return Claim(len(lines) == 1 and owed > 0, f"the way of the checkpoint is on the bill: ${owed:.5f} ({source})")
