"""Which clouds the settings switch on, and that those which are off cost nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dsched.scheduler.clouds import check, clouds
from dsched.scheduler.config import Config, ConfigError


def config(aws: dict[str, Any], *, gcp: dict[str, Any] | None = None, local: bool = False) -> Config:
    return Config(state=Path("/nowhere"), aws=aws, gcp=gcp or {}, local=local)


def test_nothing_is_on_by_itself() -> None:
    assert clouds(config({}), "cluster") == {}
    assert clouds(config({}, local=True), "cluster") == {}


def test_aws_is_on_when_it_has_regions() -> None:
    assert list(clouds(config({"regions": ["us-east-1"]}), "cluster")) == ["aws"]


def test_google_cloud_is_on_when_it_has_a_project() -> None:
    assert list(clouds(config({}, gcp={"project": "my-project-1"}), "cluster")) == ["gcp"]
    both = config({"regions": ["us-east-1"]}, gcp={"project": "my-project-1"})
    assert list(clouds(both, "cluster")) == ["aws", "gcp"]
    with pytest.raises(ConfigError, match=r"gcp\.project"):
        check(config({}, gcp={"regions": ["us-central1"]}))


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"queue": "dsched"}, "no regions"),
        ({"regions": "us-east-1"}, "list of texts"),
        ({"regions": ["us-east-1"], "colour": "red"}, "unknown setting 'colour'"),
        ({"regions": ["us-east-1"], "markets": ["sport"]}, "markets has sport"),
        ({"regions": ["us-east-1"], "disk_gib": "big"}, "must be a number"),
        ({"regions": ["us-east-1"], "groups": {"us-east-1": "sg-1"}}, "list of texts"),
        ({"regions": ["us-east-1"], "subnets": "subnet-1"}, "must be a table"),
        ({"regions": ["us-east-1"], "launches_per_second": 0}, "above 0"),
    ],
)
def test_a_setting_that_cannot_work_is_named(table: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        check(config(table))


def test_a_real_cloud_and_the_embedded_one_do_not_share_a_clock() -> None:
    with pytest.raises(ConfigError, match="local = false"):
        check(config({"regions": ["us-east-1"]}, local=True))
    with pytest.raises(ConfigError, match=r"beside \[gcp\]"):
        check(config({}, gcp={"project": "my-project-1"}, local=True))


def test_the_library_is_loaded_by_the_first_call_and_not_before() -> None:
    code = (
        "import sys; from pathlib import Path; from dsched.scheduler.clouds import clouds;"
        "from dsched.scheduler.config import Config;"
        "clouds(Config(state=Path('/nowhere'), local=False, aws={'regions': ['us-east-1']},"
        "gcp={'project': 'my-project-1'}), 'cluster');"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"boto3", "botocore", "moto", "google"} & set(done.stdout.split()) == set()
