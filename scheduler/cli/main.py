"""`dsched`: the table of commands, and how each of their ends becomes an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from dsched.scheduler.cli.contract import Exit
from dsched.scheduler.cli.lazy import Entry, ReaderGone, root

if TYPE_CHECKING:
    from dsched.scheduler.cli.trouble import Trouble

HELP: Final = (
    "Run GPU jobs where they finish by their deadline for the least money, and keep them running when the cloud takes "
    "the machine back. First time? `dsched demo` trains a real model here and survives a real kill."
)
_CLI: Final = "dsched.scheduler.cli."

COMMANDS: Final = (
    Entry("submit", "Jobs", _CLI + "submit", "Plan, confirm, queue a job and follow its log."),
    Entry("plan", "Jobs", _CLI + "submit", "Price a job on every offer; change nothing."),
    Entry("ps", "Jobs", _CLI + "jobs", "Jobs with their cost, saving, progress and end."),
    Entry("logs", "Jobs", _CLI + "logs", "One log of a job across all of its moves."),
    Entry("explain", "Jobs", _CLI + "explain", "Why it runs there, or why it waits: the stored decision."),
    Entry("wait", "Jobs", _CLI + "wait", "Wait for a job to end, or to reach a state."),
    Entry("cancel", "Jobs", _CLI + "act", "Checkpoint, then stop for good."),
    Entry("pause", "Jobs", _CLI + "act", "Checkpoint, then stop until `resume`."),
    Entry("resume", "Jobs", _CLI + "act", "Queue a paused job again."),
    Entry("checkpoint", "Jobs", _CLI + "act", "Write a checkpoint now."),
    Entry("migrate", "Jobs", _CLI + "act", "Move a job; shows what it gains first."),
    Entry("prices", "Market and money", _CLI + "market", "Offers by price per GPU, with their risk."),
    Entry("nodes", "Market and money", _CLI + "market", "Machines we pay for now."),
    Entry("market", "Market and money", _CLI + "market", "How good predictions were, and what to reserve."),
    Entry("budget", "Market and money", _CLI + "money", "Budgets; `budget set NAME LIMIT` changes one."),
    Entry("report", "Market and money", _CLI + "money", "What was spent and saved, in all or by one job."),
    Entry("top", "Watch", "dsched.tui.app", "Everything, live, in the terminal.", process=True),
    Entry("events", "Watch", _CLI + "watch", "What happened and why; -f follows."),
    Entry("info", "Watch", _CLI + "watch", "The daemon, its clocks and its providers."),
    Entry("simulate", "Rehearse", "dsched.scheduler.simulate", "Weeks of jobs and faults, in seconds.", process=True),
    Entry("backtest", "Rehearse", "dsched.scheduler.backtest", "My last days under other rules.", process=True),
    Entry("demo", "Set up", "dsched.scheduler.demo", "A real job, a real kill, on this machine.", process=True),
    Entry("daemon", "Set up", "dsched.scheduler.daemon", "Run the service in the foreground.", process=True),
    Entry("setup", "Set up", "dsched.scheduler.setup", "A cloud's role, rules and queues, as files.", process=True),
    Entry("doctor", "Set up", _CLI + "doctor", "Check this host and the daemon; prints each fix."),
    Entry("db", "Set up", "dsched.scheduler.db", "Check, back up or restore the database.", process=True),
    Entry("journal", "Set up", "dsched.scheduler.journal", "The market as it was seen, as traces.", process=True),
    Entry("schema", "Set up", _CLI + "schema", "The JSON Schema of a job spec, for editors."),
    Entry("completion", "Set up", _CLI + "schema", "The completion script of a shell."),
)


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """One command, to its exit code. What runs as a process of its own replaces this one."""
    if list(argv[:2]) == ["prices", "import"]:  # reads files of the host, as no list of prices does
        replace_by("dsched.scheduler.pricebook", argv[2:])
    if argv and (entry := next((e for e in COMMANDS if e.process and e.name == argv[0]), None)):
        replace_by(entry.module, argv[1:])
    try:
        result = root(COMMANDS, HELP).main(args=list(argv), prog_name="dsched", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else Exit.OK
    except (ReaderGone, BrokenPipeError):
        # Who read us has enough. Nothing more may be written, not even at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except Exception as e:  # the outermost loop: what is ours is told, what is not is raised
        return _told(e, argv)


def replace_by(module: str, argv: Sequence[str]) -> None:
    """Become another entry module. Modules beside the user's own files are only found when we were started that way."""
    safe = [] if sys.path[:1] in ([""], [os.getcwd()]) else ["-P"]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *safe, "-m", module, *argv])  # noqa: S606 - no shell is wanted


def _told(error: Exception, argv: Sequence[str]) -> int:
    """Print a failure that is meant for people, and give its exit code; raise any other."""
    import typer

    from dsched.scheduler.api.client import ClientError
    from dsched.scheduler.cli.trouble import Trouble, as_json, as_lines

    if isinstance(error, typer.Abort):
        return Exit.INTERRUPTED
    if isinstance(error, typer.TyperException):
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stdout.write(error.format_message() + "\n")
            return Exit.USAGE
        trouble = _usage(error)
    elif isinstance(error, ClientError):
        trouble = Trouble(error.problem)
    elif isinstance(error, Trouble):
        trouble = error
    else:
        raise error
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and "--no-color" not in argv
    if _wants_json(argv):
        lines: Sequence[str] = [as_json(trouble.problem)]
    else:
        lines = trouble.text or as_lines(trouble.problem, colour=colour)
    sys.stdout.flush()
    encoding = sys.stderr.encoding or "utf-8"
    for line in lines:
        sys.stderr.write(line.encode(encoding, "replace").decode(encoding) + "\n")
    return int(trouble.exit)


def _usage(error: Any) -> Trouble:
    """A wrong command line, in the same form as every other failure."""
    from dsched.scheduler.cli.trouble import Trouble
    from dsched.scheduler.wire.api import Problem

    context = getattr(error, "ctx", None)
    path = context.command_path if context else "dsched"
    hint = f"{path} --help"
    if type(error).__name__ == "NoSuchOption" and context is not None and context.parent is None:
        hint = f"{hint}     options stand behind the command: dsched ps -o json"
    return Trouble(Problem(code="E100", message=error.format_message(), hint=hint, retryable=False), exit=Exit.USAGE)


def _wants_json(argv: Sequence[str]) -> bool:
    """Whether failures are to be JSON; asked of the raw words, because they may be what is wrong."""
    words = " ".join(argv).replace("=", " ")
    return any(f"{flag} json" in words for flag in ("-o", "--output")) or "-ojson" in words


if __name__ == "__main__":
    main()
