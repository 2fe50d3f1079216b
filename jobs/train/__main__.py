"""`python -m dsched.jobs.train`: train alone, in a gang, or under an agent; `--check A B` compares two runs."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from dsched.jobs.runtime.contract import EXIT_CORRUPT, EXIT_NEVER_RETRY, EXIT_SAVED, ContractError, Runtime
from dsched.jobs.runtime.storage import StorageError
from dsched.jobs.train.shape import PRESETS, Precision

log = logging.getLogger("dsched.train")

DIFFERENCES_SHOWN = 10


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    if options.check:
        return check(*options.check)
    try:
        run = Runtime.from_env()
    except ContractError as e:
        log.error("%s", e)
        return EXIT_NEVER_RETRY
    try:
        return _train(run, options)
    finally:
        run.close()


def check(uri_a: str, uri_b: str) -> int:
    """Say whether two runs computed the same bits; 0 if so, 1 if not, 2 if that cannot be told."""
    from dsched.jobs.train.losses import compare

    try:
        steps, differences = compare(uri_a, uri_b)
    except StorageError as e:
        log.error("%s", e)
        return 2
    if steps == 0:
        _say("no step is in both runs")
        return 2
    for difference in differences[:DIFFERENCES_SHOWN]:
        _say(difference)
    verdict = f"{len(differences)} differences" if differences else "bit-identical, newest checkpoint included"
    _say(f"{steps} steps compared: {verdict}")
    return 1 if differences else 0


def _train(run: Runtime, options: argparse.Namespace) -> int:
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a lost peer is our business, not a stack trace's
    import torch  # after SIGTERM is caught: this takes a second

    from dsched.jobs.runtime.checkpoint import NothingValid, Superseded
    from dsched.jobs.runtime.elastic import Summation
    from dsched.jobs.runtime.storage import BadUri
    from dsched.jobs.runtime.tensors import Mismatch
    from dsched.jobs.train.loop import EXIT_FAILED, train
    from dsched.jobs.train.training import Recipe

    torch.set_num_threads(options.threads)
    try:
        recipe = Recipe(
            seed=options.seed,
            shape=PRESETS[options.preset],
            precision=Precision(options.precision),
            shards=options.shards,
            rows=options.rows,
            length=options.length,
            rate=options.rate,
            corpus_bytes=options.corpus_bytes,
        )
    except ValueError as e:
        log.error("%s", e)
        return EXIT_NEVER_RETRY
    try:
        return train(
            run,
            options.checkpoint or run.env.checkpoint or _default(),
            recipe,
            steps=options.steps,
            every=options.every,
            device=_device(options.device, run.env.local_rank),
            summation=Summation(options.summation),
            recompute=options.recompute,
            pace_ms=options.pace_ms,
        )
    except ContractError as e:
        log.error("%s", e)
        return EXIT_NEVER_RETRY
    except (BadUri, Mismatch) as e:
        log.error("%s", e)
        return EXIT_NEVER_RETRY
    except NothingValid as e:
        log.error("no checkpoint can be used: %s", e)
        return EXIT_CORRUPT
    except Superseded as e:
        log.warning("%s", e)
        return EXIT_SAVED
    except StorageError as e:
        log.error("the checkpoint store failed: %s", e)
        return EXIT_FAILED


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m dsched.jobs.train", description=__doc__)
    parser.add_argument("--steps", type=_positive, default=300)
    parser.add_argument("--seed", type=int, default=1, help="of the weights and the order of the data")
    parser.add_argument("--preset", choices=PRESETS, default="tiny", help="the model's shape")
    parser.add_argument("--precision", choices=[each.value for each in Precision], default=Precision.FP32.value)
    parser.add_argument("--shards", type=_positive, default=4, help="micro-batches per step: the most workers")
    parser.add_argument("--rows", type=_positive, default=1, help="rows per micro-batch")
    parser.add_argument("--length", type=_positive, default=64, help="bytes per row")
    parser.add_argument("--rate", type=float, default=3e-3, help="learning rate")
    parser.add_argument("--corpus-bytes", type=_positive, default=4 << 20)
    parser.add_argument("--every", type=int, default=0, metavar="STEPS", help="save after so many steps too")
    parser.add_argument("--pace-ms", type=float, default=0.0, help="a step takes at least so long, for demonstrations")
    parser.add_argument("--threads", type=_positive, default=1, help="more change the bits")
    parser.add_argument("--recompute", action="store_true", help="compute activations again instead of keeping them")
    parser.add_argument("--device", default="auto", help="cpu, cuda:0, ...; default: a GPU where there is one")
    parser.add_argument(
        "--summation",
        choices=["tree", "allreduce"],
        default="tree",
        help="of gradients; allreduce is what libraries do, and gives other bits at every number of workers",
    )
    parser.add_argument(
        "--checkpoint", default="", metavar="URI", help="default: DSCHED_CHECKPOINT, else ./checkpoints"
    )
    parser.add_argument("--check", nargs=2, metavar="URI", help="compare the losses and weights of two runs, and leave")
    return parser.parse_args(arguments)


def _device(wanted: str, local_rank: int) -> str:
    """A GPU's kernels repeat their bits only when told to, and that import takes 1.7 s; a CPU's do on one thread."""
    import torch

    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if not wanted.startswith("cuda"):
        return wanted
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    index: int | None = torch.device(wanted).index  # its type says it is never None
    torch.cuda.set_device(local_rank % max(1, torch.cuda.device_count()) if index is None else index)
    return f"cuda:{torch.cuda.current_device()}"


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number


def _default() -> str:
    return str(Path.cwd() / "checkpoints")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads may wait for a lost peer, and taking torch down takes longer than a step
