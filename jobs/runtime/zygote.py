"""A warm process that forks ranks: what a training script imports is paid for once per node, not once per start.

    python -m dsched.jobs.runtime.zygote FD FOLDER MODULE

goes to FOLDER, imports MODULE, calls its `warm()` where it has one, and then serves the SOCK_SEQPACKET socket FD: one
JSON request {"argv": ["-m", module, ...], "env": {...}, "cwd": path} with two descriptors (gate, output) per rank,
answered by {"pid": n}. The new process is nobody's child: its starter must be a subreaper (PR_SET_CHILD_SUBREAPER), so
that it is the one that hears of its end. It leads a session of its own, waits for a line at the gate, and runs the
module as `python -m` would. At the end of the socket the zygote ends; ranks that it forked do not.

Standard library only. A zygote must be alone: no thread, no CUDA context and no autograd may have been there before a
fork. Import torch in `warm()`, use it in the rank.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import threading
import traceback
from typing import Any, Final

REQUEST_BYTES_MAX: Final = 1 << 20  # an environment; Linux allows 128 KiB per string and 2 MiB in all
DESCRIPTORS: Final = 2


class NotOurs(Exception):
    """A request that is not one."""


def main(arguments: list[str]) -> int:
    fd, folder, module = arguments
    os.chdir(folder)
    sys.path[0] = folder  # as `python -m` has it
    control = socket.socket(fileno=int(fd))
    control.set_inheritable(False)
    preload(module)
    control.send(b'{"ready": true}')
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, REQUEST_BYTES_MAX, DESCRIPTORS)
        if not data:
            return 0
        try:
            control.send(json.dumps({"pid": fork(_request(data, descriptors), descriptors, control)}).encode())
        except (NotOurs, OSError) as e:
            control.send(json.dumps({"error": str(e)}).encode())
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def preload(module: str) -> None:
    """Import `module` and let it warm up. Without it the zygote would be of no use, so failures end it."""
    warm = getattr(importlib.import_module(module), "warm", None)
    if warm is not None:
        warm()


def fork(request: dict[str, Any], descriptors: list[int], control: socket.socket) -> int:
    """The pid of the new rank, which leads its session already and waits at the gate."""
    told, tell = os.pipe()
    between = os.fork()
    if between == 0:  # its end makes the rank an orphan, and an orphan is the subreaper's
        if os.fork():
            os._exit(0)
        os.setsid()
        os.write(tell, str(os.getpid()).encode())
        os.close(told)
        os.close(tell)
        control.close()
        become(request, *descriptors)
    os.close(tell)
    with os.fdopen(told, "rb") as answer:
        text = answer.read()
    os.waitpid(between, 0)
    if not text:
        raise OSError("the kernel gave no process")
    return int(text)


def become(request: dict[str, Any], gate: int, output: int) -> None:
    """Turn this process into the rank; does not return."""
    code = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        if os.read(gate, 1):  # else whoever asked for it is gone
            _stand(request, gate, output)
            try:
                code = _run(request["argv"])
            finally:
                _end()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _stand(request: dict[str, Any], gate: int, output: int) -> None:
    os.chdir(request["cwd"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    for fd, number in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(fd, number)
    for fd in (nothing, gate, output):
        if fd > 2:
            os.close(fd)
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[0] = request["cwd"]


def _run(argv: list[str]) -> int:
    sys.argv = argv[1:]
    try:
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    except SystemExit as e:
        if isinstance(e.code, int):
            return e.code
        if e.code is None:
            return 0
        sys.stderr.write(f"{e.code}\n")
        return 1
    return 0


def _end() -> None:
    """As an interpreter ends: wait for the module's threads, then run what it registered."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()


def _request(data: bytes, descriptors: list[int]) -> dict[str, Any]:
    try:
        body: dict[str, Any] = json.loads(data)
        argv, env = body["argv"], body["env"]
    except (ValueError, KeyError, TypeError) as e:
        raise NotOurs(f"not a request: {e}") from e
    if len(descriptors) != DESCRIPTORS or argv[:1] != ["-m"] or len(argv) < 2 or not isinstance(env, dict):
        raise NotOurs("a request has argv -m MODULE ..., env, cwd and two descriptors")
    return body


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
