"""Jobs as users write them, without a line of ours: interrupted with notice, resumed elsewhere, with nothing lost."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dsched.providers.local.provider import LocalProvider
from tests.support.house import House, house, marked, wait_for

CANARY = "canary-7f3a9c1e55"
STEPS = 40  # the first run stops counting one step short of them: it ends by its notice, however late that comes

SHELL = f"""
dir=${{DSCHED_CHECKPOINT#file://}}; mkdir -p "$dir"
n=$(cat "$dir/n" 2>/dev/null || echo 0)
from=$n; n=$((n+1)); most={STEPS}; [ "$DSCHED_RESUME" ] || most={STEPS - 1}
save() {{ echo $n > "$dir/n.new"; mv "$dir/n.new" "$dir/n"; echo "saved $n"; exit 75; }}
trap save TERM
echo "from $from, resume=$DSCHED_RESUME, $GREETING, secret of ${{#TOKEN}}, set up $(wc -l < setup.ran) times"
while [ $n -lt {STEPS} ]; do [ $n -lt $most ] && n=$((n+1)); sleep 0.1; done
"""

PLAIN = f"""
import json, os, signal, socket, sys, time
state = os.environ["DSCHED_CHECKPOINT"].removeprefix("file://") + ".json"
os.makedirs(os.path.dirname(state), exist_ok=True)
agent = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
def say(**words): agent.sendto(json.dumps(words).encode(), os.environ["DSCHED_SOCKET"])
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
step = json.load(open(state)) if os.path.exists(state) else 0
print("from", step, flush=True)
most = {STEPS} if os.environ["DSCHED_RESUME"] else {STEPS - 1}
step += 1
while step < {STEPS} and not stop:
    time.sleep(0.1)
    step = min(step + 1, most)
    say(event="step", step=step, steps={STEPS}, loss=1 / step)
with open(state, "w") as file: json.dump(step, file)
say(event="saved", step=step, uri="file://" + state)
print("saved", step, json.load(open(os.environ["DSCHED_CONTROL"]))["deadline_ms"], flush=True)
sys.exit(0 if step == {STEPS} else 75)
"""

THREE_LINES = f"""
import json, os, sys, time
from dsched.jobs.runtime import EXIT_SAVED, Runtime
run = Runtime.from_env()
state = run.env.checkpoint.removeprefix("file://") + ".json"
os.makedirs(os.path.dirname(state), exist_ok=True)
step = json.load(open(state)) if os.path.exists(state) else 0
print("from", step, flush=True)
most = {STEPS} if os.environ["DSCHED_RESUME"] else {STEPS - 1}
while step < {STEPS}:
    time.sleep(0.1)
    step = min(step + 1, most)
    run.step(step, steps={STEPS})
    if run.should_stop or run.due(step) or step == {STEPS}:
        with open(state, "w") as file: json.dump(step, file)
        run.saved(step, uri="file://" + state)
    if run.should_stop:
        print("saved", step, run.deadline_ms, flush=True)
        sys.exit(EXIT_SAVED)
"""

JOBS = {
    "shell": ("bash loop.sh", "loop.sh", SHELL),
    "plain": (f"{sys.executable} -S plain.py", "plain.py", PLAIN),
    "three": (f"{sys.executable} three.py", "three.py", THREE_LINES),
}


def dsched(home: House, *arguments: str) -> None:
    command = [sys.executable, "-m", "dsched", *arguments]
    subprocess.run(command, env={**os.environ, "DSCHED_STATE": str(home.state)}, check=True, capture_output=True)


def submit(home: House, folder: Path, name: str) -> str:
    run, file, text = JOBS[name]
    (folder / "work").mkdir(exist_ok=True)
    (folder / "work" / file).write_text(text)
    (folder / "token").write_text(CANARY)
    (folder / f"{name}.yaml").write_text(
        f"name: {name}\nrun: {run}\nworkdir: work\nsetup: [date >> setup.ran]\nenv: {{GREETING: hello}}\n"
        f'secrets: {{TOKEN: "file:{folder}/token"}}\ngpus: {{type: [H100], count: 8}}\n'
    )
    dsched(home, "submit", "--detach", str(folder / f"{name}.yaml"))
    return next(job["id"] for job in home.client.jobs() if job["name"] == name)


def interrupt(home: House, job: str) -> None:
    [node] = [node["id"] for node in home.client.nodes() if node["job"] == job]
    asyncio.run(LocalProvider(home.state / "cloud" / "cloud.sock").inject("interrupt", node=node))


def said(home: House, job: str, generation: int) -> str:
    return "".join(line["text"] + "\n" for line in home.client.logs(job) if line["generation"] == generation)


@pytest.mark.slow
def test_an_interrupted_job_of_any_kind_goes_on_where_it_was(tmp_path: Path) -> None:
    with house(tmp_path, "--notice-scale", "20", "--idle-seconds", "5") as home:
        ids = {name: submit(home, tmp_path, name) for name in JOBS}
        for job in ids.values():
            wait_for(lambda job=job: "from 0" in said(home, job, 1), f"the first words of {job}")
        assert not marked(CANARY.encode(), where="cmdline")
        for job in ids.values():
            interrupt(home, job)
        ended = {name: home.wait_state(job, "succeeded", "failed") for name, job in ids.items()}
        for name, job in ids.items():
            first, second = said(home, job, 1), said(home, job, 2)
            assert (ended[name]["state"], ended[name]["generation"]) == ("succeeded", 2), ended[name]["reason"]
            saved = _number(r"saved (\d+)", first)
            assert 0 < saved < STEPS
            assert _number(r"from (\d+)", second) == saved, "a step was lost"
            if name != "shell":
                assert _number(r"saved \d+ (\d+)", first) > 0, "the job can read when it will be killed"
                assert ended[name]["checkpoint_step"] == STEPS
        assert "from 0, resume=, hello, secret of 17, set up 1 times" in said(home, ids["shell"], 1)
        assert "resume=1, hello, secret of 17, set up 1 times" in said(home, ids["shell"], 2)  # another node
        assert [path for path in (*home.state.rglob("*"), home.log) if path.is_file() and _holds(path)] == []


@pytest.mark.slow
def test_a_job_that_says_run_me_again_finds_its_node_prepared(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        run = "echo set up $(wc -l < setup.ran); test $DSCHED_GENERATION -gt 1 || exit 75"
        job = home.submit("again", run, setup=["date >> setup.ran"])
        found = home.wait_state(job, "succeeded", "failed")
        assert (found["state"], found["generation"], found["failures"]) == ("succeeded", 2, 0)
        assert [said(home, job, generation) for generation in (1, 2)] == ["set up 1\n"] * 2


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found, f"{pattern} is not in {text!r}"
    return int(found[1])


def _holds(path: Path) -> Any:
    try:
        return CANARY.encode() in path.read_bytes()
    except OSError:
        return False  # it went while we looked
