"""`dsched setup aws|gcp`: write what a person must set up once in a cloud, and check it as far as this host can.

Files only: nothing is changed in any account. A process of its own, since it knows the clouds' rooms; no library of a
cloud is loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from dsched.providers.aws import setup as aws
from dsched.providers.gcp import setup as gcp
from dsched.providers.gcp.settings import PROJECT
from dsched.scheduler.config import FILE, Config, ConfigError, default_state, from_file
from dsched.scheduler.view.safe import show
from dsched.scheduler.view.say import WIDEST, fail, say

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
TOOL_S: Final = 60.0  # for one check by another program
QUEUE: Final = re.compile(r"dsched[A-Za-z0-9_-]{0,70}")  # what the policy lets the daemon read
_SID: Final = re.compile(r"[A-Za-z0-9]+")


class Verdict(NamedTuple):
    """Of one check: "ok", "fail", or "not run" with the reason."""

    what: str
    verdict: str
    words: str = ""


def main(argv: Sequence[str]) -> int:
    """Write one cloud's files and say what was checked; the exit code."""
    given = arguments().parse_args(argv)
    try:
        config = from_file((given.state or default_state()) / FILE, Config(state=given.state or default_state()))
        made = _aws(given, config) if given.cloud == "aws" else _gcp(given, config)
    except (ConfigError, ValueError) as error:
        return fail("E100", str(error), f"dsched setup {given.cloud} --help", USAGE)
    folder: Path = given.out or Path(f"dsched-setup-{given.cloud}")
    try:
        write(folder, made)
    except OSError as error:
        return fail("E500", f"{error.filename}: {(error.strerror or str(error)).lower()}", "give another --out", FAILED)
    found = [*lint(made), *by_tools(folder, given.cloud)]
    for name in made:
        say(show(f"wrote  {folder / name}", WIDEST))
    for one in found:
        say(show(f"check  {one.what}: {one.verdict}" + (f" ({one.words})" if one.words else ""), WIDEST))
    say(show(f"next   read them, then: sh {folder / 'apply.sh'}", WIDEST))
    return FAILED if any(one.verdict == "fail" for one in found) else OK


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dsched setup", description="Write a cloud's role, rules and queues as files."
    )
    parser.add_argument("cloud", choices=("aws", "gcp"))
    parser.add_argument("--out", type=Path, default=None, help="folder (default: dsched-setup-CLOUD)")
    parser.add_argument(
        "--region", action="append", default=None, help="aws, repeatable (default: those of config.toml)"
    )
    parser.add_argument(
        "--queue", default="", help="aws: name of the queue in every region (default: config's or dsched)"
    )
    parser.add_argument("--project", default="", help="gcp (default: that of config.toml)")
    parser.add_argument("--state", type=Path, default=None, help="state directory (default: DSCHED_STATE)")
    return parser


def _aws(given: argparse.Namespace, config: Config) -> dict[str, str]:
    regions = given.region or list(config.aws.get("regions", ())) or ["us-east-1"]
    queue = given.queue or str(config.aws.get("queue") or "dsched")
    if bad := [region for region in regions if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", region)]:
        raise ValueError(f"{bad[0]!r} is no region of AWS; one looks like us-east-1")
    if not QUEUE.fullmatch(queue):
        raise ValueError(f"--queue {queue}: must begin with dsched, since the policy reads no other queue")
    return aws.files(list(dict.fromkeys(regions)), queue)


def _gcp(given: argparse.Namespace, config: Config) -> dict[str, str]:
    project = given.project or str(config.gcp.get("project", ""))
    if not PROJECT.fullmatch(project):
        raise ValueError(f"--project {project or 'PROJECT'}: must be the id of a project, such as my-project-1")
    return gcp.files(project)


def write(folder: Path, made: Mapping[str, str]) -> None:
    """Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        path = folder / name
        rough = path.with_name(f".{name}.part")
        rough.write_text(text, encoding="utf-8")
        rough.chmod(0o755 if name.endswith(".sh") else 0o644)
        os.replace(rough, path)


def lint(made: Mapping[str, str]) -> list[Verdict]:
    """What can be seen without any other program."""
    return [verdict for name, text in made.items() for verdict in _linted(name, text)]


def _linted(name: str, text: str) -> Iterator[Verdict]:
    try:
        if name.endswith(".json"):
            yield _judged(f"{name} as JSON", _policy_faults(json.loads(text)))
        elif name.endswith(".yaml"):
            told = YAML(typ="safe", pure=True).load(text)
            yield _judged(f"{name} as YAML", _stack_faults(told) if "Resources" in told else _role_faults(told))
    except (ValueError, YAMLError) as error:
        yield Verdict(name, "fail", str(error).splitlines()[0])


def _judged(what: str, faults: Sequence[str]) -> Verdict:
    return Verdict(what, "fail", "; ".join(faults)) if faults else Verdict(what, "ok")


def _policy_faults(policy: Mapping[str, Any]) -> list[str]:
    """Of an IAM policy: its form, its size, and that nothing is allowed by a star."""
    faults = []
    statements = policy.get("Statement", [])
    sids = [one.get("Sid", "") for one in statements]
    if len(set(sids)) < len(sids) or not all(map(_SID.fullmatch, sids)):
        faults.append("a Sid is missing, or there twice")
    if any("*" in action for one in statements for action in one["Action"]):
        faults.append("an action has a star")
    if (size := len(re.sub(r"\s", "", json.dumps(policy)))) > aws.POLICY_MAX:
        faults.append(f"{size} characters; a managed policy has {aws.POLICY_MAX} at most")
    return faults


def _stack_faults(stack: Mapping[str, Any]) -> list[str]:
    """Of a CloudFormation template: every reference has its resource."""
    known = set(stack["Resources"])
    faults = [f"{name} has no Type" for name, one in stack["Resources"].items() if "Type" not in one]
    return faults + [f"nothing is called {name}" for name in sorted(set(_references(stack)) - known)]


def _references(told: Any) -> Iterator[str]:
    if isinstance(told, Mapping):
        for key, value in told.items():
            if key == "Ref":
                yield value
            elif key == "Fn::GetAtt":
                yield value[0]
            else:
                yield from _references(value)
    elif isinstance(told, list):
        for value in told:
            yield from _references(value)


def _role_faults(role: Mapping[str, Any]) -> list[str]:
    named = role.get("includedPermissions", [])
    wrong = [name for name in named if not re.fullmatch(r"[a-z]+\.[A-Za-z]+\.[A-Za-z]+", name)]
    return [f"{name} is no permission" for name in wrong] + ([] if named else ["no permissions"])


def by_tools(folder: Path, cloud: str) -> list[Verdict]:
    """By the programs that this host happens to have; the others are named as not run."""
    found = [_run("sh", "apply.sh", folder, ["sh", "-n", "apply.sh"])]
    found.append(
        _run("terraform", "main.tf by terraform fmt", folder, ["terraform", "fmt", "-check", "-diff", "main.tf"])
    )
    if cloud == "aws":
        stacks = ["cfn-lint", "--non-zero-exit-code", "error", "iam.yaml", "notices.yaml"]
        found.append(_run("cfn-lint", "iam.yaml, notices.yaml by cfn-lint", folder, stacks))
    ask = "terraform validate" if cloud == "aws" else "terraform validate and gcloud"
    return [*found, Verdict(ask, "not run", "they need the network: terraform init, then terraform validate")]


def _run(tool: str, what: str, folder: Path, command: Sequence[str]) -> Verdict:
    if shutil.which(tool) is None:
        return Verdict(what, "not run", f"no {tool} here")
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TOOL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Verdict(what, "not run", str(error))
    if done.returncode == 0:
        return Verdict(what, "ok")
    said = (done.stdout + done.stderr).strip().splitlines()
    return Verdict(what, "fail", said[0] if said else f"exit {done.returncode}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
