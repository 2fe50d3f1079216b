"""`python -m dsched.scheduler.demo.clouds`: play, prove, show. Exit 0 only if every claim held in this run."""

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

from dsched.jobs.runtime.storage import StorageError
from dsched.scheduler.api.client import ClientError
from dsched.scheduler.demo.clouds.play import Record, play
from dsched.scheduler.demo.clouds.proof import claims
from dsched.scheduler.demo.play import DemoError, Settings
from dsched.scheduler.demo.proof import Claim, closed, tell_claims
from dsched.scheduler.view.safe import show
from dsched.scheduler.view.say import say

LIMIT_SECONDS: Final = 90.0  # the promise
PATIENCE_SECONDS: Final = 300.0  # a machine that is busy with others breaks the promise, and is told how far
STEPS: Final = 60  # with three starts of torch some 20 s of CPU in all
FAKES: Final = (
    "Both clouds are fakes: moto behind a door, and a fake of Google's API. The demo sets their prices, no account was",
    "billed, no GPU was used. Client libraries, HTTP, TLS, shells, processes, kills and losses are real.",
)


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    folder = Path(tempfile.mkdtemp(prefix="dsched-clouds-"))
    settings = Settings(folder=folder, steps=options.steps, seed=options.seed, limit_seconds=PATIENCE_SECONDS)
    began = time.monotonic()

    def tell(text: str) -> None:
        if not options.json:
            say(f"{time.monotonic() - began:6.1f} s  {show(text)}")

    try:
        record = play(settings, tell)
    except (DemoError, ClientError, StorageError) as error:
        sys.stderr.write(f"error[E310] {error}\n  kept  {folder}\n")
        return 1
    found = claims(record, settings)
    seconds = time.monotonic() - began
    found.append(Claim(seconds < LIMIT_SECONDS, f"all of it took {seconds:.0f} s (at most {LIMIT_SECONDS:.0f} s)"))
    if options.json:
        say(json.dumps({"v": 1, "claims": [asdict(claim) for claim in found], "bill": record.bill}))
    else:
        _summary(record, found)
    return closed(found, folder, keep=options.keep, tell=lambda text: sys.stderr.write(f"{text}\n"))


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo-clouds", description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS, help=f"training steps (default {STEPS})")
    parser.add_argument("--seed", type=int, default=1, help="seed of the training")
    parser.add_argument("--json", action="store_true", help="claims and bill as JSON")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs, state and machines")
    return parser.parse_args(argv)


def _summary(record: Record, found: list[Claim]) -> None:
    bill = record.bill
    say("")
    say(f"  {'machine':<46} {'seconds':>8} {'$/h':>9} {'paid':>9} {'on demand':>10}")
    for line in bill["lines"]:
        kind = "" if line["kind"] == "compute" else f" ({line['kind']})"
        say(
            f"  {line['where'] + kind:<46} {(line['end'] - line['start']) / 1_000:>8.1f} {float(line['rate']):>9.4f}"
            f" {float(line['owed']):>9.5f} {float(line['baseline'] or 0):>10.5f}"
        )
    share = f" ({bill['saved_share']:.0%})" if bill["saved_share"] is not None else ""
    say(
        f"  paid ${float(bill['spent']):.5f} against ${float(bill['baseline']):.5f} on demand: "
        f"${float(bill['saved']):.5f}{share} saved"
    )
    for sentence in FAKES:
        say(f"  {sentence}")
    say("")
    tell_claims(found)


if __name__ == "__main__":
    sys.exit(main())
