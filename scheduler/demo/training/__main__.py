"""`make demo-train`: the same weights from 1, 2 and 4 workers, through kills and notices, and from a gang that moves.

Exit 0 only if every claim held in this run. What is emulated is said: FP8 products are rounded as the hardware rounds
them and multiplied in bf16; the cloud's GPUs are pretended; processes, notices and kills are real.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from dsched.jobs.agent.warm import Zygote
from dsched.scheduler.demo.play import DemoError
from dsched.scheduler.demo.proof import Claim, closed, tell_claims
from dsched.scheduler.demo.training import cloud, gang, proof
from dsched.scheduler.view.safe import show
from dsched.scheduler.view.say import say

BLOWS: Final = 8
WORLDS: Final = (1, 2, 4)
SHARDS: Final = 4
EVERY: Final = 5  # steps between checkpoints

Tell = Callable[[str], None]


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    folder = Path(tempfile.mkdtemp(prefix="dsched-demo-train-"))
    began = time.monotonic()

    def tell(text: str) -> None:
        if not options.quiet:
            say(f"{time.monotonic() - began:6.1f} s  {show(text)}")

    found: list[Claim] = []
    try:
        with gang.warmed(folder) as zygote:
            for precision in options.precisions:
                found += _legs(zygote, folder / precision, precision, options, tell)
            if options.cloud:
                found += _cloud_leg(zygote, folder, tell)
    except (gang.GangError, DemoError) as error:
        sys.stderr.write(f"error[E310] {error}\n  kept  {folder}\n")
        return 1
    say("")
    tell_claims(found)
    say(f"  all of it took {time.monotonic() - began:.0f} s")
    return closed(found, folder, keep=options.keep)


def _legs(zygote: Zygote, folder: Path, precision: str, options: argparse.Namespace, tell: Tell) -> Iterator[Claim]:
    train = ["--preset", options.preset, "--precision", precision, "--shards", str(SHARDS), "--every", str(EVERY)]
    steps = ["--steps", str(options.steps)]
    gangs = [*train, *steps, "--summation", options.summation]

    def go(name: str, arguments: list[str], world: int, plan: Sequence[gang.Blow] = ()) -> gang.Run:
        run = gang.run(zygote, folder / name, arguments, world, plan)
        tell(f"{precision} {name}: {run.seconds:.0f} s")
        return run

    straight = go("straight", [*train, *steps], 1)
    for world in (2, 4):
        yield proof.same(f"{precision}, {world} workers", go(f"gang-{world}", gangs, world).uri, straight.uri)
    plan = gang.chaos(options.seed, steps=options.steps, blows=BLOWS, worlds=WORLDS)
    chaos = go("chaos", gangs, 2, plan)
    yield from proof.struck(f"{precision}, chaos", chaos, BLOWS, len(WORLDS))
    yield proof.same(f"{precision}, chaos", chaos.uri, straight.uri)
    if options.summation == "tree":
        other = go("other", [*train, *steps, "--summation", "allreduce"], 4)
        yield proof.different(f"{precision}, 4 workers adding up by all_reduce", other.uri, straight.uri)


def _cloud_leg(zygote: Zygote, folder: Path, tell: Tell) -> Iterator[Claim]:
    arguments = ["--preset", "tiny", "--precision", "fp32", "--shards", str(SHARDS), "--steps", str(cloud.STEPS)]
    straight = gang.run(zygote, folder / "cloud-straight", arguments, 1)
    tell(f"embedded cloud, the undisturbed run: {straight.seconds:.0f} s")
    (folder / "cloud").mkdir()
    leg = cloud.run(folder / "cloud", arguments, tell)
    yield from proof.moved(leg)
    yield proof.same("embedded cloud", leg.uri, straight.uri)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m dsched.scheduler.demo.training", description=__doc__)
    parser.add_argument("--preset", default="4m", help="the model's shape (default 4m)")
    parser.add_argument("--steps", type=int, default=24, help="training steps (default 24)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the kills and notices")
    parser.add_argument(
        "--precisions", nargs="*", default=["bf16", "fp8"], choices=["fp32", "bf16", "fp8"], metavar="PRECISION"
    )
    parser.add_argument(
        "--summation", choices=["tree", "allreduce"], default="tree", help="allreduce: see the check fail"
    )
    parser.add_argument("--no-cloud", dest="cloud", action="store_false", help="without the leg on the embedded cloud")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and checkpoints")
    parser.add_argument("--quiet", action="store_true", help="the claims only")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
