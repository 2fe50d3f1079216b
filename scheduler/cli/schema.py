"""`schema` and `completion`."""

from __future__ import annotations

import json
from typing import Annotated, Final

import typer

from dsched.scheduler.cli.lazy import COMPLETE, here
from dsched.scheduler.cli.trouble import trouble

SHELLS: Final = ("bash", "zsh", "fish", "powershell")


def schema(ctx: typer.Context) -> None:
    """The JSON Schema of a job spec, for editors.

    dsched schema > dsched.schema.json     and first in the spec: # yaml-language-server: $schema=dsched.schema.json
    """
    from dsched.scheduler.wire.spec import json_schema

    here(ctx).line(json.dumps(json_schema(), indent=2))


def completion(
    ctx: typer.Context, shell: Annotated[str, typer.Argument(metavar="SHELL", help=" | ".join(SHELLS))]
) -> None:
    """The completion script of a shell.

    dsched completion bash > ~/.local/share/bash-completion/completions/dsched
    """
    if shell not in SHELLS:
        raise trouble("E100", f"no completion for {shell!r}", f"dsched completion {' | '.join(SHELLS)}")
    from typer._completion_shared import get_completion_script

    script = get_completion_script(prog_name="dsched", complete_var=COMPLETE, shell=shell)
    here(ctx).line(script)
