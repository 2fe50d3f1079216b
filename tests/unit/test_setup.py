"""What `dsched setup` writes: made of what the code calls, sound as far as can be told here, never half written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from dsched.providers.aws import notices, permissions
from dsched.providers.aws import setup as aws
from dsched.providers.gcp import setup as gcp
from dsched.providers.gcp.permissions import METHODS
from dsched.scheduler import setup
from tests.support.checkout import text


def read(told: str) -> object:
    return YAML(typ="safe", pure=True).load(told)


def test_the_policy_is_the_one_of_the_recorded_calls() -> None:
    made = aws.files(["us-east-1"], "dsched")
    assert made["policy.json"] == permissions.text() == text(Path("deploy/aws/iam.json"))
    assert permissions.everything() in find(read(made["iam.yaml"]), "PolicyDocument")
    document = made["main.tf"].partition("<<-POLICY\n")[2].partition("  POLICY\n")[0]
    assert json.loads(document) == permissions.everything()


def find(told: object, key: str) -> list[object]:
    if isinstance(told, dict):
        return [one for name, value in told.items() for one in ([value] if name == key else find(value, key))]
    return [one for value in told for one in find(value, key)] if isinstance(told, list) else []


def test_the_rule_lets_through_what_the_code_understands_and_nothing_else() -> None:
    pattern = aws.pattern()
    named = {name for part in pattern["$or"] for name in part["detail-type"]}
    assert named == set(notices.KINDS)
    assert find(read(aws.yaml(aws.notices_stack("dsched"))), "EventPattern") == [pattern]
    assert json.loads(aws.terraform(["us-east-1"], "q").partition("PATTERN\n")[2].partition("\n")[0]) == pattern


def test_every_region_has_its_queue_in_terraform() -> None:
    told = aws.terraform(["us-east-1", "eu-west-1"], "dsched-a")
    assert told.count('resource "aws_sqs_queue"') == 2
    assert told.count('name                      = "dsched-a"') == 2


def test_the_role_holds_every_permission_of_every_call() -> None:
    made = gcp.files("my-project-1")
    assert made["role.yaml"] == text(Path("deploy/gcp/role.yaml"))
    for permission in {permission for needed in METHODS.values() for permission in needed}:
        assert f'"{permission}",' in made["main.tf"]


def test_the_files_that_are_kept_are_what_the_code_says() -> None:
    """Else: dsched setup aws --out deploy/aws, and keep notices.yaml"""
    assert text(Path("deploy/aws/notices.yaml")) == aws.files(["us-east-1"], "dsched")["notices.yaml"]


def test_everything_that_is_written_passes_what_can_be_checked_here(tmp_path: Path) -> None:
    for cloud, made in (("aws", aws.files(["us-east-1"], "dsched")), ("gcp", gcp.files("my-project-1"))):
        setup.write(tmp_path / cloud, made)
        found = [*setup.lint(made), *setup.by_tools(tmp_path / cloud, cloud)]
        assert [one for one in found if one.verdict == "fail"] == []
        assert found[-1].verdict == "not run"
        assert sorted(path.name for path in (tmp_path / cloud).iterdir()) == sorted(made)


@pytest.mark.parametrize(
    ("name", "told", "words"),
    [
        ("policy.json", "{", "Expecting"),
        ("policy.json", '{"Statement": [{"Sid": "A", "Action": ["ec2:*"]}]}', "star"),
        ("policy.json", '{"Statement": [{"Action": ["ec2:Run"]}]}', "Sid"),
        ("policy.json", json.dumps({"Statement": [{"Sid": "A", "Action": ["ec2:Run" * 1_000]}]}), "6144"),
        ("iam.yaml", "Resources: {A: {Type: T, P: {Ref: B}}}", "nothing is called B"),
        ("role.yaml", "includedPermissions: [compute]", "no permission"),
        ("role.yaml", "a: [", "parsing"),
    ],
)
def test_a_file_that_is_wrong_is_found(name: str, told: str, words: str) -> None:
    [found] = setup.lint({name: told})
    assert found.verdict == "fail"
    assert words in found.words


@pytest.mark.parametrize(
    "argv", [["aws", "--region", "us-central1"], ["aws", "--queue", "mine"], ["gcp"], ["gcp", "--project", "X"]]
)
def test_what_cannot_be_set_up_is_refused_and_nothing_is_written(tmp_path: Path, argv: list[str]) -> None:
    out = tmp_path / "out"
    assert setup.main([*argv, "--out", str(out), "--state", str(tmp_path)]) == 2
    assert not out.exists()


def test_the_settings_say_where_and_no_library_of_a_cloud_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[aws]\nregions = ["eu-west-1"]\nqueue = "dsched-x"\n')
    code = (
        "import sys; from dsched.scheduler.setup import main;"
        f"code = main(['aws', '--out', {str(tmp_path / 'out')!r}, '--state', {str(tmp_path)!r}]);"
        "print(code, *{name.split('.')[0] for name in sys.modules} & {'boto3', 'botocore', 'google'})"
    )
    bare = os.environ | {"PATH": str(tmp_path)}  # none of the programs that check is here
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=bare)
    assert done.stdout.splitlines()[-1] == "0"
    assert "iam.yaml, notices.yaml by cfn-lint: not run (no cfn-lint here)" in done.stdout
    assert '"dsched-x"' in (tmp_path / "out" / "notices.yaml").read_text()
    assert "eu_west_1" in (tmp_path / "out" / "main.tf").read_text()
