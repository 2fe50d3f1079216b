"""What a warm zygote has ready for this trainer: torch, our modules, and the corpus. Nothing is computed here."""

from __future__ import annotations

import importlib
import os


def warm() -> None:
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a lost peer is our business, not a stack trace's
    import torch

    from dsched.jobs.train.data import standard_library

    importlib.import_module("dsched.jobs.train.loop")
    if torch.version.cuda is not None:
        importlib.import_module("torch._inductor.config")  # use_deterministic_algorithms imports it: 1.7 s
    standard_library()
