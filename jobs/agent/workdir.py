"""What a generation needs before its ranks start: the unpacked bundle, the variables, the secrets.

<node dir>/bundles/<sha256>       the archive, verified
<node dir>/work/<job>             its content, the working directory of every generation of the job here
<node dir>/work/<job>.ready       which bundle and set-up it holds: the same are not unpacked or run again
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from dsched.jobs.agent.near import fetched
from dsched.scheduler.wire.agent import Start

UNPACKED_MAX: Final = 32 * 1024**3  # a tar of zeros must not fill the disk
MEMBERS_MAX: Final = 1_000_000
IN_A_CLOUD: Final = ("aws-sm", "gcp-sm")  # schemes of secrets that a cloud keeps
SECRET_MAX: Final = 64 * 1024

# Of the agent's own environment a rank gets what it needs to run programs: never a secret, never the metadata service.
INHERITED: Final = frozenset(
    name
    for line in (
        "PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ TMPDIR VIRTUAL_ENV PYTHONPATH LD_LIBRARY_PATH",
        "DSCHED_NODE_DIR",  # by this a cloud that embeds the node finds what belongs to it
        "SSL_CERT_FILE SSL_CERT_DIR http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY",
    )
    for name in line.split()
)
INHERITED_PREFIXES: Final = ("LC_", "CUDA_", "NVIDIA_", "NCCL_", "OMP_", "MKL_", "TORCH")

Fetch = Callable[[str, Path], None]


class PrepareError(Exception):
    """The ranks cannot start. `command` is the step that failed, `code` an exit code; `machine`: it is to blame."""

    def __init__(self, command: str, code: int, reason: str, *, machine: bool = False) -> None:
        super().__init__(reason)
        self.command, self.code, self.reason, self.machine = command, code, reason, machine


class Workdir:
    def __init__(self, node_dir: Path, order: Start) -> None:
        image = [order["image"]] if order.get("image") else []
        self._holds = json.dumps([order["bundle"], order["setup"], *image]).encode()
        self._bundle, self._generation = order["bundle"], order["generation"]
        self._near = order.get("bundle_link", "")
        self._archive = node_dir / "bundles" / self._bundle
        self.path = node_dir / "work" / order["job"]
        self._mark = self.path.with_name(self.path.name + ".ready")

    @property
    def ready(self) -> bool:
        try:
            return self._mark.read_bytes() == self._holds
        except OSError:
            return False

    def mark(self) -> None:
        self._mark.write_bytes(self._holds)

    def unpack(self, fetch: Fetch, wanted: Callable[[], bool]) -> None:
        """Make the directory anew. Blocks; for a thread. Raises PrepareError.

        One that is not `wanted` any more leaves no trace: the next generation may be at the same directory.
        """
        fresh = self.path.with_name(f"{self.path.name}.{self._generation}")
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            if self._bundle:
                self._fetched(fetch)
                _extract(self._archive, fresh)
            if not wanted():
                shutil.rmtree(fresh, ignore_errors=True)
                return
            self._mark.unlink(missing_ok=True)
            shutil.rmtree(self.path, ignore_errors=True)
            os.replace(fresh, self.path)
        except OSError as error:
            raise PrepareError(f"bundle {self._bundle[:12]}", 1, str(error)) from error

    def _fetched(self, fetch: Fetch) -> None:
        if len(self._bundle) != 64 or not all(c in "0123456789abcdef" for c in self._bundle):
            raise PrepareError("bundle", 1, f"{self._bundle[:80]!r} is not a SHA-256 in hexadecimal")
        if self._archive.exists():
            return
        self._archive.parent.mkdir(parents=True, exist_ok=True)
        part = self._archive.with_name(f"{self._archive.name}.{self._generation}.part")
        if not (self._near and fetched(self._near, part) and _digest(part) == self._bundle):
            fetch(self._bundle, part)
        got = _digest(part)
        if got != self._bundle:
            part.unlink()
            raise PrepareError(
                f"bundle {self._bundle[:12]}", 1, f"its bytes have the SHA-256 {got}: damaged on the way"
            )
        os.replace(part, self._archive)


def _digest(path: Path) -> str:
    import hashlib  # brings OpenSSL along: 4 MiB, only for jobs that ship a directory

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _extract(archive: Path, target: Path) -> None:
    """Entries that would leave `target`, devices and foreign owners are refused by the filter."""
    import tarfile  # 10 ms and 2 MiB, only for jobs that ship a directory

    name = f"bundle {archive.name[:12]}"
    size = 0
    try:
        with tarfile.open(archive, "r:*") as tar:
            for count, member in enumerate(tar):
                size += max(0, member.size)
                if size > UNPACKED_MAX or count >= MEMBERS_MAX:
                    raise PrepareError(
                        name, 1, f"it unpacks to more than {UNPACKED_MAX} bytes or {MEMBERS_MAX} entries"
                    )
                tar.extract(member, target, filter="data")
    except tarfile.TarError as error:
        raise PrepareError(name, 1, f"{type(error).__name__}: {error}") from error


def environment(order: Start, own: Mapping[str, str]) -> dict[str, str]:
    """What set-up commands and ranks get beside the contract's variables. Raises PrepareError for a secret."""
    env = {name: value for name, value in own.items() if name in INHERITED or name.startswith(INHERITED_PREFIXES)}
    env.update({name: value for name, value in order["env"].items() if _usable(name, value)})
    for name, reference in order["secrets"].items():
        if reference.partition(":")[0] in IN_A_CLOUD:
            continue  # see vault.py: it takes a while
        value = resolve(name, reference, own)
        if not _usable(name, value):
            raise PrepareError(
                f"secret {name}", 1, f"{reference}: cannot be a variable (an empty name, '=' or a NUL byte)"
            )
        env[name] = value
    return env


def resolve(name: str, reference: str, own: Mapping[str, str]) -> str:
    """The value behind "file:/path" or "env:NAME", known only here. Raises PrepareError; never says the value."""
    scheme, _, rest = reference.partition(":")
    if scheme == "env":
        if rest in own:
            return own[rest]
        raise PrepareError(f"secret {name}", 1, f"{reference}: the agent has no such variable")
    if scheme == "file":
        try:
            # Without O_NONBLOCK, a pipe that nobody writes to would hold the whole node.
            with open(rest, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
                raw = file.read(SECRET_MAX + 1) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
        except OSError as error:
            raise PrepareError(f"secret {name}", 1, f"{reference}: {error.strerror}") from error
        except ValueError as error:  # a NUL byte
            raise PrepareError(f"secret {name}", 1, f"{reference!r}: {error}") from error
        if raw is None:
            raise PrepareError(f"secret {name}", 1, f"{reference}: not a file")
        if len(raw) > SECRET_MAX:
            raise PrepareError(f"secret {name}", 1, f"{reference}: longer than {SECRET_MAX} bytes")
        return raw.decode("utf-8", "surrogateescape").removesuffix("\n")
    raise PrepareError(
        f"secret {name}", 1, f"{reference}: use file:/path, env:NAME, aws-sm:NAME or gcp-sm:PROJECT/NAME"
    )


def _usable(name: str, value: str) -> bool:
    return bool(name) and "=" not in name and "\0" not in name and "\0" not in value
