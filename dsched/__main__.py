"""`python -m dsched` is the `dsched` command."""

from dsched.scheduler.cli.main import main

main()
