"""Ranks in a container: their command becomes one of docker's or podman's, and the contract stays what it is.

Inside are the host's network, its shared memory, the node's folder under its own path, and the job's variables by name:
a value never stands in a list of arguments. The processes of a container are the engine's children and not ours; they
carry the job's mark, and by that they are found, warned and killed like all others.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from dsched.jobs.agent.workdir import PrepareError
from dsched.scheduler.wire.agent import Start

ENGINES: Final = ("docker", "podman")  # in this order
_STEP: Final = "the container"
# Of the host: an image has its own.
_OUTSIDE: Final = frozenset(
    ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "LD_LIBRARY_PATH")
)
_GPUS: Final = {"docker": "--gpus all", "podman": "--device nvidia.com/gpu=all"}


class Container(NamedTuple):
    engine: str  # a path
    image: str
    gpus: bool
    mounts: tuple[str, ...]  # folders, under the same path inside

    @property
    def pull(self) -> str:
        """A command for the host: the image is here, or can be had."""
        engine, image = shlex.quote(self.engine), shlex.quote(self.image)
        return f"{engine} image inspect {image} >/dev/null 2>&1 || exec {engine} pull -q {image}"

    def command(self, run: str, env: Mapping[str, str], workdir: Path) -> str:
        """What a shell on the host runs so that a shell in the container runs `run`."""
        words = [self.engine, "run", "--rm", "--init", "--network", "host", "--ipc", "host"]
        words += ["--workdir", str(workdir), "--entrypoint", "/bin/sh"]
        if self.gpus:
            words += _GPUS[Path(self.engine).name].split()
        for mount in self.mounts:
            words += ["--mount", f"type=bind,source={mount},target={mount}"]
        for name in sorted(env.keys() - _OUTSIDE):
            words += ["--env", name]
        return "exec " + shlex.join([*words, self.image, "-c", run])


def container(order: Start, folders: Sequence[Path], own: Mapping[str, str]) -> Container:
    """By the engine that this machine has; a folder of checkpoints is there, too. Raises PrepareError, OSError."""
    image = order.get("image", "")
    engine = next(filter(None, (shutil.which(name, path=own.get("PATH")) for name in ENGINES)), None)
    if engine is None:
        raise PrepareError(_STEP, 1, f"{image}: there is no docker and no podman on this machine", machine=True)
    saved = urlsplit(order["checkpoint"])
    if saved.scheme in ("", "file") and saved.path:
        folders = [*folders, Path(unquote(saved.path))]
        folders[-1].mkdir(parents=True, exist_ok=True)  # the engine would make it, as root
    if bad := next((str(folder) for folder in folders if "," in str(folder)), None):
        raise PrepareError(_STEP, 1, f"{bad}: a folder with a comma cannot be mounted")
    gpus = order.get("gpus", 0) > 0
    return Container(engine, image, gpus, tuple(dict.fromkeys(os.path.abspath(folder) for folder in folders)))
