"""What `make demo-train` claims, each claim checked against what the runs left in their checkpoint stores."""

from __future__ import annotations

from dsched.jobs.train.losses import compare
from dsched.jobs.train.weights import digest
from dsched.scheduler.demo.proof import Claim
from dsched.scheduler.demo.training.cloud import Leg
from dsched.scheduler.demo.training.gang import Run

SHORT = 16  # characters of a digest that a person compares


def same(name: str, uri: str, straight: str) -> Claim:
    """Every loss and every byte of the newest checkpoint are the undisturbed run's."""
    steps, differences = compare(straight, uri)
    step, weights = digest(uri)
    if differences:
        return Claim(False, f"{name}: {len(differences)} differences in {steps} steps, first: {differences[0]}")
    return Claim(steps > 0, f"{name}: {steps} losses equal to the last bit, weights {weights[:SHORT]} at step {step}")


def different(name: str, uri: str, straight: str) -> Claim:
    """The check would notice: another way to add up the same gradients gives other weights after the same steps."""
    (step, weights), (steps, wanted) = digest(uri), digest(straight)
    if step != steps or weights == wanted:
        return Claim(False, f"{name}: weights {weights[:SHORT]} at step {step}, so the check is blind")
    return Claim(True, f"{name}: other weights, {weights[:SHORT]} at step {step}, as it should be")


def struck(name: str, run: Run, blows: int, worlds: int) -> list[Claim]:
    """It was really disturbed, at really different sizes, and a notice cost no step."""
    kinds = [blow.kind for blow in run.blows]
    sizes = sorted(set(run.worlds))
    text = f"{name}: {kinds.count('kill') + kinds.count('kill-all')} kills and {kinds.count('notice')} notices, "
    text += f"{len(run.worlds)} generations of {' '.join(map(str, run.worlds))} workers"
    return [
        Claim(len(run.blows) >= blows and len(sizes) >= worlds and len(run.worlds) == len(run.blows) + 1, text),
        Claim(run.lost_by_notice == 0, f"{name}: {run.again} steps computed twice, none of them after a notice"),
    ]


def moved(leg: Leg) -> list[Claim]:
    job = leg.job
    zones = sorted({where.rsplit("/", 2)[0] for where in leg.zones})
    sizes = " ".join(map(str, leg.worlds))
    return [
        Claim(job["state"] == "succeeded", f"embedded cloud: the job ended by itself: {job['state']}, {job['reason']}"),
        Claim(len(zones) > 1, f"embedded cloud: it ran in {len(zones)} zones: {', '.join(zones)}"),
        Claim(len(set(leg.worlds)) > 1, f"embedded cloud: it grew and shrank: generations of {sizes} workers"),
        Claim(not leg.left_over, f"embedded cloud: {len(leg.left_over)} processes left over"),
    ]
