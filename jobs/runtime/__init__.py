"""In the job's process: what turns a training script into one that survives the market.

    from dsched.jobs.runtime import Runtime

    run = Runtime.from_env()
    run.step(step, loss=loss, tokens=tokens)
    if run.should_stop or run.due(step): ...save, and leave with EXIT_SAVED when told to stop

Importing this costs the standard library only. `storage` and `checkpoint` know no tensor library; the only modules here
that import torch are `tensors`, the adapter, and `elastic`, gangs whose result does not depend on their size.
"""

from dsched.jobs.runtime.contract import EXIT_CORRUPT, EXIT_DONE, EXIT_NEVER_RETRY, EXIT_PEER_LOST, EXIT_SAVED, Runtime

__all__ = ["EXIT_CORRUPT", "EXIT_DONE", "EXIT_NEVER_RETRY", "EXIT_PEER_LOST", "EXIT_SAVED", "Runtime"]
