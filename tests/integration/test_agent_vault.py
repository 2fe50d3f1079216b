"""Secrets that a cloud keeps: the machine's own identity opens them, and nothing but the ranks ever sees a value."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dsched.jobs.agent.vault import signed, unlock
from dsched.jobs.agent.workdir import PrepareError
from tests.support.agent import agent

KEYS = {"AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": "wJalrXUtnFEMI/K7MDENG", "Token": "session"}


class Cloud(ThreadingHTTPServer):
    """A metadata service and a keeper of secrets in one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.heard: list[tuple[str, dict[str, str], bytes]] = []
        self.status, self.identity = 200, True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def env(self, flavour: str) -> dict[str, str]:
        return {
            "DSCHED_METADATA": self.url,
            "DSCHED_METADATA_FLAVOUR": flavour,
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": self.url,
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER": self.url,
        }

    def answer(self, path: str) -> tuple[int, Any]:
        identities = {
            "/latest/meta-data/iam/security-credentials/": b"node-role",
            "/latest/meta-data/iam/security-credentials/node-role": KEYS,
            "/computeMetadata/v1/instance/service-accounts/default/token": {"access_token": "ya29.x"},
        }
        told: dict[str, Any] = {"/latest/api/token": b"t", "/latest/meta-data/placement/region": b"us-east-1"}
        secrets = {
            "/": {"SecretString": "s3cr3t"},
            "/v1/projects/p-1/secrets/hf/versions/latest:access": {
                "payload": {"data": base64.b64encode(b"s3cr3t").decode()}
            },
        }
        if path in secrets:
            return self.status, secrets[path]
        found = (told | (identities if self.identity else {})).get(path)
        return (404, b"") if found is None else (200, found)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Cloud

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.heard.append((self.path, dict(self.headers), body))
        status, told = self.server.answer(self.path)
        raw = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_PUT = do_POST = do_GET

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud() as cloud:
        serving = threading.Thread(target=cloud.serve_forever, args=(0.02,))
        serving.start()
        yield cloud
        cloud.shutdown()
        serving.join()


@pytest.mark.parametrize(("flavour", "reference"), [("aws", "aws-sm:hf/token"), ("gcp", "gcp-sm:p-1/hf")])
def test_the_machines_identity_opens_a_secret(cloud: Cloud, flavour: str, reference: str) -> None:
    assert unlock({"HF": reference, "OTHER": "env:X"}, cloud.env(flavour)) == {"HF": "s3cr3t"}
    [(_, headers, body)] = [call for call in cloud.heard if call[0] == "/" or call[0].startswith("/v1/")]
    sent = {name.lower(): value for name, value in headers.items()}
    if flavour == "aws":
        assert json.loads(body) == {"SecretId": "hf/token"}
        assert sent["x-amz-target"] == "secretsmanager.GetSecretValue"
    else:
        assert sent["authorization"] == "Bearer ya29.x"


def test_the_signature_is_the_one_that_amazons_library_makes() -> None:
    pytest.importorskip("botocore", reason="botocore is missing: pip install .[aws]")
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    host, body, stamp = "secretsmanager.us-east-1.amazonaws.com", b'{"SecretId": "hf"}', "20260101T000000Z"
    ours = signed(KEYS, "us-east-1", host, body, stamp)
    request = AWSRequest("POST", f"https://{host}/", data=body)
    for name, value in ours.items():
        if name != "authorization":
            request.headers[name] = value
    request.headers["host"] = host
    request.context["timestamp"] = stamp
    credentials = Credentials(KEYS["AccessKeyId"], KEYS["SecretAccessKey"], KEYS["Token"])
    theirs = SigV4Auth(credentials, "secretsmanager", "us-east-1")
    canonical = theirs.canonical_request(request)
    signature = theirs.signature(theirs.string_to_sign(request, canonical), request)
    assert ours["authorization"].endswith(f"Signature={signature}")


def test_a_machine_without_an_identity_says_what_to_set(cloud: Cloud) -> None:
    cloud.identity = False
    with pytest.raises(PrepareError) as failure:
        unlock({"HF": "aws-sm:hf"}, cloud.env("aws"))
    assert "the machine has no role: [aws] instance_profile" in failure.value.reason
    with pytest.raises(PrepareError) as failure:
        unlock({"HF": "gcp-sm:p-1/hf"}, cloud.env("gcp"))
    assert "[gcp] service_account" in failure.value.reason


def test_the_other_clouds_secrets_stay_shut(cloud: Cloud) -> None:
    with pytest.raises(PrepareError) as failure:
        unlock({"HF": "gcp-sm:p-1/hf"}, cloud.env("aws"))
    assert "this machine is one of aws, whose identity opens no gcp-sm" in failure.value.reason


def test_ranks_and_set_up_get_it_and_no_log_holds_it(cloud: Cloud, tmp_path: Path) -> None:
    keeper = {"AWS_ENDPOINT_URL_SECRETS_MANAGER": cloud.url}
    with agent(tmp_path, env=keeper) as running:
        running.meta.more = {
            "/latest/meta-data/iam/security-credentials/": b"node-role",
            "/latest/meta-data/iam/security-credentials/node-role": json.dumps(KEYS).encode(),
            "/latest/meta-data/placement/region": b"us-east-1",
        }
        run = f'test "$HF" = s3cr3t && echo ok > {tmp_path}/ok'
        running.home.start(run, setup=['test "$HF" = s3cr3t'], secrets={"HF": "aws-sm:hf"})
        assert running.home.fact("exited")["exits"] == {"0": 0}
        cloud.status = 403
        running.home.start("true", job="shut", secrets={"HF": "aws-sm:hf"})
        fact = running.home.fact("setup-failed")
        assert (fact["command"], "answered 403" in fact["tail"]) == ("secret HF", True)
        assert "s3cr3t" not in running.errors.read_text() + json.dumps(running.home.facts)
    assert (tmp_path / "ok").exists()
