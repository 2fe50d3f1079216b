"""What a job spec may say, and how a wrong one is answered: the place, the reason, the nearest right word."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from dsched.providers import catalog
from dsched.scheduler.core.hardware import ACCELERATORS
from dsched.scheduler.core.job import Checkpointing
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.units import Instant, Moment
from dsched.scheduler.view.fault import fault_lines
from dsched.scheduler.wire.document import BYTES_MAX, SpecError
from dsched.scheduler.wire.spec import JobSpec, from_wire, json_schema, load, to_core

NOW = Moment(Instant(0), Instant(int(datetime(2026, 11, 20, 14, tzinfo=UTC).timestamp() * 1000)))
LEAST = "name: a\nrun: x\n"
FULL = """\
name: moe-ft
run: torchrun train.py
workdir: .
setup: [pip install -e .]
env: {VERSION: 1.10, DEBUG: no, MODE: 012, EMPTY: ""}
secrets: {TOKEN: file:/run/credentials/hf, KEY: env:KEY}
gpus: {type: [H100, h200], count: 8..32, memory: 80GB, fp8: required}
ranks_per_node: 8
within: 12h
duration: 1h30m
max_price: 12.50
max_cost: $400
max_duration: 2d
capacity: [spot, on-demand]
regions: [us-east-1, aws, gcp/europe-*]
priority: 5
budget: team-llm
checkpoint: {to: s3://ckpts/moe-ft, every: 30s}
retries: {max: 2, on: [1, 75]}
drain: 20s
hang: 90s
steps: 1000
"""


def faults(text: str, *overrides: str) -> list[str]:
    """What is wrong, each as file:line:column field: message."""
    with pytest.raises(SpecError) as refused:
        load(text, "job.yaml", list(overrides))
    return [str(fault) for fault in refused.value.faults]


def fault(text: str, *overrides: str) -> str:
    (only,) = faults(text, *overrides)
    return only


def test_every_field_reaches_the_core() -> None:
    spec = to_core(load(FULL, "job.yaml"), NOW, "ana", "ab12")
    assert (spec.name, spec.run, spec.user, spec.bundle) == ("moe-ft", "torchrun train.py", "ana", "ab12")
    assert spec.setup == ("pip install -e .",)
    assert spec.env == {"VERSION": "1.10", "DEBUG": "no", "MODE": "012", "EMPTY": ""}
    assert spec.secrets == {"TOKEN": "file:/run/credentials/hf", "KEY": "env:KEY"}
    assert spec.need.accelerators == ("H100", "H200")
    assert (spec.need.gpus_min, spec.need.gpus_max, spec.need.gpu_memory_gib) == (8, 32, 80)
    assert spec.need.fp8
    assert spec.need.fp8_required
    assert spec.need.markets == (Market.SPOT, Market.ON_DEMAND)
    assert spec.need.places == ("*/us-east-1", "*/us-east-1[-a-z]*", "aws/*", "gcp/europe-*")
    assert spec.need.price_max == 12_500_000
    assert spec.deadline == NOW.market + 12 * 3_600_000
    assert (spec.duration, spec.duration_max) == (5_400_000, 172_800_000)
    assert (spec.drain, spec.hang) == (20_000, 90_000)
    assert (spec.cost_max, spec.priority, spec.budget, spec.steps) == (400_000_000, 5, "team-llm", 1000)
    assert spec.checkpoint == Checkpointing(uri="s3://ckpts/moe-ft", every=30_000)  # type: ignore[arg-type]
    assert (spec.retries, spec.retry_on, spec.ranks_per_node) == (2, (1, 75), 8)


@pytest.mark.parametrize(("line", "ms"), [("hang: off\n", 0), ("hang: 1h\n", 3_600_000), ("", 300_000)])
def test_hang_detection_can_be_slower_or_off(line: str, ms: int) -> None:
    assert to_core(load(LEAST + line, "job.yaml"), NOW, "ana").hang == ms
    assert "write for example 30s" in fault(LEAST + "hang: never\n")


def test_name_and_command_are_enough() -> None:
    spec = to_core(load(LEAST, "job.yaml"), NOW, "ana")
    assert spec.need.cpu_only
    assert spec.deadline is None


@pytest.mark.parametrize("gpus", ["4", "'4'", "{count: 4}"])
def test_a_number_of_gpus_is_short_for_any_model(gpus: str) -> None:
    need = to_core(load(f"{LEAST}gpus: {gpus}", "job.yaml"), NOW, "ana").need
    assert (need.accelerators, need.gpus_min, need.gpus_max, need.cpu_only) == ((), 4, 4, False)


def test_no_gpus_is_said_by_none_or_by_nothing() -> None:
    for text in ("gpus: none", "gpus: 0", "gpus:", ""):
        assert to_core(load(LEAST + text, "job.yaml"), NOW, "ana").need.cpu_only


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: Moe\nrun: x", "job.yaml:1:7 name: must be lower-case letters"),
        ("run: x", "job.yaml:1:1 name: is missing"),
        ("name: a\nrun: 5", "job.yaml:2:6 run: must be text; quote it"),
        ("name: a\nrun: ''", "job.yaml:2:6 run: must not be empty"),
        (LEAST + "checkpoints: {}", "job.yaml:3:1 checkpoints: unknown field; did you mean checkpoint?"),
        (LEAST + "command: y", "job.yaml:3:1 command: unknown field; did you mean run?"),
        (LEAST + "deadline: 5h", "job.yaml:3:1 deadline: unknown field; did you mean finish_by?"),
        (LEAST + "deadlin: 5h", "job.yaml:3:1 deadlin: unknown field; did you mean finish_by?"),
        (LEAST + "gpus:\n  type: [H200, H10O]", "job.yaml:4:16 gpus.type.1: unknown GPU 'H10O'; did you mean H100?"),
        (LEAST + "gpus: {type: Z9}", "job.yaml:3:14 gpus.type.0: unknown GPU 'Z9'; there are: T4, V100"),
        (LEAST + "gpus: 32..8", "job.yaml:3:7 gpus.count: not a range from 1 up: '32..8'"),
        (LEAST + "gpus: -1", "job.yaml:3:7 gpus.count: not a number of GPUs: '-1'; write for example 8 or 8..32"),
        (LEAST + "gpus: {fp8: maybe}", "job.yaml:3:13 gpus.fp8: must be true, false or required"),
        (LEAST + "capacity: [spott]", "job.yaml:3:12 capacity.0: unknown word 'spott'; did you mean spot?"),
        (LEAST + "within: 12", "job.yaml:3:9 within: '12' has no unit; write 12s, 12m or 12h"),
        (LEAST + "finish_by: soon", "job.yaml:3:12 finish_by: not a time: 'soon'"),
        (LEAST + "finish_by: 18:00\nwithin: 1h", "job.yaml:4:1 within: finish_by names the deadline already; keep one"),
        (LEAST + "env: {RANK: 1}", "job.yaml:3:7 env.RANK: RANK is set by dsched; choose another name"),
        (LEAST + "env: {1a: b}", "job.yaml:3:7 env.1a: '1a' is no name for a variable"),
        (LEAST + "max_cost: cheap", "job.yaml:3:11 max_cost: not an amount of dollars: 'cheap'"),
        (LEAST + "retries: 1000", "job.yaml:3:10 retries.max: must be less than or equal to 100"),
        (LEAST + "regions: [a/b/c]", "job.yaml:3:11 regions.0: not a place: 'a/b/c'"),
        (LEAST + "checkpoint: ftp://x", "job.yaml:3:13 checkpoint.to: 'ftp://x' is no place for checkpoints"),
        ("- a", "job.yaml:1:1 a spec is a list of fields such as `name: moe-ft`"),
        ("", "empty"),
        ("name: a\nname: b", "job.yaml:2:1 'name' stands twice (first on line 1)"),
        ("name: &n a\nrun: *n", "job.yaml:1:7 YAML anchors and aliases are not supported"),
        ("name: !!str a", "job.yaml:1:7 YAML tags are not supported"),
        ("name: a\n---\nname: b", "job.yaml:2:1 a second document; one file holds one job"),
        ("name: a\n  run: x", "job.yaml:2:6 not valid YAML: mapping values are not allowed here"),
        ("name: a\nrun: \x07", "job.yaml:2:6 not valid YAML"),
        ("? [a]\n: b", "job.yaml:1:3 a field's name must be a word"),
        ("a: " + "[" * 12 + "]" * 12, "job.yaml:1:12 nested deeper than 8 levels"),
        ("x: [" + "1," * 3_000 + "]", "job.yaml:1:3999 more than 2000 values"),
    ],
)  # fmt: skip
def test_a_fault_names_its_place_and_its_remedy(text: str, said: str) -> None:
    assert faults(text)[0].startswith(said)


def test_all_faults_are_told_at_once_in_the_order_of_the_file() -> None:
    found = faults("name: A\nrun: 5\ngpus: {count: 0}\nxs: 1")
    assert [f.split()[0] for f in found] == ["job.yaml:1:7", "job.yaml:2:6", "job.yaml:3:15", "job.yaml:4:1"]


def test_a_value_that_may_be_the_secret_itself_is_not_repeated() -> None:
    said = fault(LEAST + "secrets: {TOKEN: hunter2}")
    assert "hunter2" not in said
    assert "must be a reference, never the secret" in said


def test_size_is_checked_before_anything_is_parsed() -> None:
    assert "job.yaml: larger than 64 KiB" in fault("[" * (BYTES_MAX + 1))


def test_scalars_are_those_of_yaml_1_2() -> None:
    spec = load(LEAST + "env: {A: no, B: 1:30, C: 0o17, D: 1e3}\nsteps: 10", "job.yaml")
    assert spec.env == {"A": "no", "B": "1:30", "C": "0o17", "D": "1e3"}
    assert faults(LEAST + "steps: 1:30")[0].endswith("steps: must be a whole number")


def test_the_caret_stands_under_what_is_meant() -> None:
    with pytest.raises(SpecError) as refused:
        load(LEAST + "gpus:\n  type: [H10O, H200]\n", "job.yaml")
    assert fault_lines(refused.value.faults, colour=False) == [
        "error[E101] job.yaml:4:10 gpus.type.0: unknown GPU 'H10O'; did you mean H100?",
        "    4 │   type: [H10O, H200]",
        "      │          ^^^^",
    ]


def test_the_caret_stands_right_behind_hostile_and_wide_text() -> None:
    with pytest.raises(SpecError) as refused:
        load(LEAST + 'env: {A: "模型\u202e", RANK: x}\n', "job.yaml")
    _, line, caret = fault_lines(refused.value.faults, colour=False)
    assert "\u202e" not in line
    assert line == '    3 │ env: {A: "模型\\u202e", RANK: x}'
    assert caret == "      │ " + " " * len('env: {A: "xxxx\\u202e", ') + "^^^^"


def test_a_fault_deep_in_a_long_line_is_still_on_the_screen() -> None:
    with pytest.raises(SpecError) as refused:
        load(f"name: a\nrun: x\nenv: {{A: {'y' * 5_000}, RANK: 1}}", "job.yaml")
    _, line, caret = fault_lines(refused.value.faults, colour=False)
    assert len(line) < 200
    assert line[caret.index("^") :].startswith("RANK")


def test_an_override_replaces_what_the_file_says() -> None:
    spec = load(
        LEAST + "gpus: none", "job.yaml", ["gpus.count=8", "gpus.type=[T4, L4]", "max_cost=20", "checkpoint.every=1m"]
    )
    assert spec.gpus is not None
    assert (spec.gpus.count, spec.gpus.type) == ("8", ["T4", "L4"])
    assert (spec.max_cost, spec.checkpoint.every) == ("20", "1m")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("gpus.type=H10O", "--set gpus.type:1:7 gpus.type.0: unknown GPU 'H10O'; did you mean H100?"),
        ("gpus", "--set 'gpus' is not of the form field=value"),
        ("=3", "--set '=3' is not of the form field=value"),
        ("colour=red", "--set colour:1:1 colour: unknown field"),
    ],
)
def test_a_wrong_override_is_shown_in_its_own_words(override: str, said: str) -> None:
    assert fault(LEAST, override).startswith(said)


def test_the_json_form_says_the_same_as_the_yaml() -> None:
    spec = load(FULL, "job.yaml").shipped("ab" * 32)
    again = from_wire(json.loads(json.dumps(spec.to_wire())))
    assert again == spec
    assert again.bundle == "ab" * 32
    assert to_core(again, NOW, "ana") == to_core(spec, NOW, "ana", "ab" * 32)


def test_the_json_form_names_the_field() -> None:
    with pytest.raises(SpecError, match=r"^gpus\.type\.0: unknown GPU 'H10O'; did you mean H100\?$"):
        from_wire({"name": "a", "run": "x", "gpus": {"type": ["H10O"]}})


@pytest.mark.parametrize("given", [None, [], "x", 5, {}, {"name": None}, {"name": "a", "run": "x", "env": 5}, {1: 2}])
def test_what_is_no_spec_is_refused(given: object) -> None:
    with pytest.raises(SpecError):
        from_wire(given)


def test_a_folder_cannot_be_submitted_without_its_bundle() -> None:
    with pytest.raises(SpecError, match="workdir: a folder must be uploaded first"):
        from_wire({"name": "a", "run": "x", "workdir": "/etc"})


def test_a_deadline_that_is_past_is_refused_with_the_time() -> None:
    with pytest.raises(SpecError, match="finish_by: '2026-11-20T13:00Z' is past"):
        to_core(load(LEAST + "finish_by: 2026-11-20T13:00Z", "job.yaml"), NOW, "ana")


def test_every_gpu_of_the_catalog_can_be_asked_for() -> None:
    assert catalog.load().accelerators.keys() <= set(ACCELERATORS)
    assert to_core(load(LEAST + "gpus: {type: a100-80}", "job.yaml"), NOW, "ana").need.accelerators == ("A100-80",)


def test_the_schema_knows_every_field_and_the_short_forms() -> None:
    schema = json_schema()
    assert schema["properties"].keys() == JobSpec.model_fields.keys()
    assert schema["required"] == ["name", "run"]
    assert {"type": "integer", "minimum": 0} in schema["properties"]["gpus"]["anyOf"]
    assert schema["$defs"]["Gpus"]["properties"]["type"]["items"]["enum"] == list(ACCELERATORS)
    assert all(field["description"] for field in schema["properties"].values())
