"""What ranks need of the machine and its cloud, looked for before they start: GPUs that answer, secrets that open.

A machine of a cloud sometimes comes up with a GPU that has fallen off its bus, or with an image without a driver. Its
ranks would fail minutes later, and take the whole gang along; here the node says so at once, and another is bought.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final

from dsched.jobs.agent import nvml, vault
from dsched.jobs.agent.loop import Loop
from dsched.jobs.agent.workdir import PrepareError
from dsched.scheduler.wire.agent import Start

PROBE_MS: Final = 60_000  # a driver that answers does so within seconds, eight cards at their first start included
STEP: Final = "the probe of its GPUs"

Done = Callable[[PrepareError | None, Mapping[str, str]], None]


def probe(loop: Loop, order: Start, own: Mapping[str, str], done: Done) -> None:
    """Call `done` once, in the loop: with the secrets, or with what keeps ranks from starting here.

    In a thread: a card that has failed can hold whoever asks for ever, and a cloud may be slow to answer.
    """
    waiting = [done]

    def tell(error: PrepareError | None, secrets: Mapping[str, str]) -> None:
        if waiting:
            waiting.pop()(error, secrets)

    def work() -> None:
        failure = look(order["gpus"]) if order.get("gpus") else None
        secrets: dict[str, str] = {}
        if failure is None:
            try:
                secrets = vault.unlock(order["secrets"], own)
            except PrepareError as error:
                failure = error
        loop.post(lambda: tell(failure, secrets))

    threading.Thread(target=work, name="probe", daemon=True).start()
    late = PrepareError("the probe", 1, f"driver or cloud have not answered for {PROBE_MS // 1_000} s", machine=True)
    loop.after(PROBE_MS, lambda: tell(late, {}))


def look(gpus: int) -> PrepareError | None:
    """What is wrong; None: at least `gpus` are there, and each one answers."""
    driver = nvml.find()
    if driver is None:
        return PrepareError(STEP, 1, f"no NVIDIA driver answers; {gpus} GPUs were bought", machine=True)
    names = driver.names()
    if len(names) < gpus:
        return PrepareError(STEP, 1, f"the driver tells of {len(names)} GPUs; {gpus} were bought", machine=True)
    if driver.used() is None:
        return PrepareError(STEP, 1, f"one of {len(names)} GPUs does not answer", machine=True)
    return None
