"""`python -m dsched.scheduler.demo`: play, prove, show. Exit 0 only if every claim held in this run."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from dsched.scheduler.demo.play import DemoError, Record, Settings, play
from dsched.scheduler.demo.proof import Claim, claims, closed, tell_claims
from dsched.scheduler.view.safe import show
from dsched.scheduler.view.say import say

LIMIT_SECONDS: Final = 60.0  # the promise


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    folder = Path(tempfile.mkdtemp(prefix="dsched-demo-"))
    settings = Settings(folder=folder, steps=options.steps, seed=options.seed)
    began = time.monotonic()

    def tell(text: str) -> None:
        if not options.quiet:
            say(f"{time.monotonic() - began:6.1f} s  {show(text)}")

    try:
        record = play(settings, tell)
    except DemoError as error:
        sys.stderr.write(f"error[E310] {error}\n  kept  {folder}\n")
        return 1
    found = claims(record, settings)
    seconds = time.monotonic() - began
    found.append(Claim(seconds < LIMIT_SECONDS, f"all of it took {seconds:.0f} s"))
    if options.json:
        say(json.dumps({"v": 1, "claims": [asdict(claim) for claim in found], "bill": record.bill}))
    else:
        _summary(record, found, settings)
    return closed(found, folder, keep=options.keep)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dsched demo", description=__doc__)
    parser.add_argument("--steps", type=int, default=240, help="training steps (default 240)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the market and of the training")
    parser.add_argument("--fast", dest="steps", action="store_const", const=120, help="120 steps")
    parser.add_argument("--json", action="store_true", help="claims and bill as JSON")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs, state and checkpoints")
    parser.add_argument("--quiet", action="store_true", help="the summary only")
    return parser.parse_args(argv)


def _summary(record: Record, found: list[Claim], settings: Settings) -> None:
    bill = record.bill
    say("")
    say(f"  {'machine':<46} {'from':>8} {'to':>8} {'$/h':>9} {'paid':>9} {'on demand':>10}")
    first = min(line["start"] for line in bill["lines"]) if bill["lines"] else 0
    for line in bill["lines"]:
        begin, end = (_clock(line[key] - first) for key in ("start", "end"))
        kind = "" if line["kind"] == "compute" else f" ({line['kind']})"
        say(
            f"  {line['where'] + kind:<46} {begin:>8} {end:>8} {_dollars(line['rate']):>9} {_dollars(line['owed']):>9}"
            f" {_dollars(line['baseline'] or '0'):>10}"
        )
    share = f" ({bill['saved_share']:.0%})" if bill["saved_share"] is not None else ""
    say(
        f"  paid ${_dollars(bill['spent'])} against ${_dollars(bill['baseline'])} on demand: "
        f"${_dollars(bill['saved'])}{share} saved"
    )
    say(f"  {record.health['market_note']}; GPUs are pretended, processes, notices and kills are real")
    say("")
    tell_claims(found)


def _clock(ms: int) -> str:
    hours, rest = divmod(ms // 1000, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def _dollars(text: str) -> str:
    return f"{float(text):,.2f}"


if __name__ == "__main__":
    sys.exit(main())
