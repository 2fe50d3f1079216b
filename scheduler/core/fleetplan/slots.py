"""Who gets the slots that are held for us when they do not suffice: whom they save most, the gang's size included.

A slot costs nobody anything more, so first come, first served would give it to a job that had a cheap place besides.
The worth of a slot is the price, per hour, of the best other place for the gang. Whoever has no other place comes
first, and whoever has waited for `Policy.patience` goes before both. In a crowd regret orders the queue (turn.py); for
a job with a deadline the price of its slack does (timely/obey.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from dsched.scheduler.core import hold
from dsched.scheduler.core.fleetplan.queue import Queue
from dsched.scheduler.core.units import Moment


def worths(queue: Queue, now: Moment) -> Mapping[str, float]:
    """Job -> micro-dollars per hour. Empty where no slot can be had, or only one job asks."""
    jobs, stock = queue.question.jobs, queue.stock
    slots = any(
        offer.quote is not None and hold.sunk(offer.quote.price) and stock.buyable(id) != 0
        for id, offer in queue.question.offers.items()
    )
    if not slots or len(jobs) < 2:
        return {}
    patience = queue.policy.patience
    return {
        job.id: math.inf if now.market - job.submitted.market >= patience else queue.shortlist(job).worth()
        for job in jobs
    }
