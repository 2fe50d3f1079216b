"""Secrets that a cloud keeps, fetched by the machine's own identity: known here and in the ranks' environment only.

    aws-sm:NAME             AWS Secrets Manager in the machine's region, by the role of its instance profile
    gcp-sm:PROJECT/NAME     Google Secret Manager, the newest version, by the machine's service account

Both are one signed call, so that the node needs no library of its cloud. AWS's signature is version 4, as its reference
describes it ("Create a signed AWS API request").
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

from dsched.jobs.agent.client import Answer, Link, LinkError
from dsched.jobs.agent.identity import ConfigurationError, Gce, Imds, metadata
from dsched.jobs.agent.workdir import IN_A_CLOUD, SECRET_MAX, PrepareError

ANSWER_S: Final = 10.0
_ROLE: Final = "/latest/meta-data/iam/security-credentials/"
_TARGET: Final = "secretsmanager.GetSecretValue"
_KIND: Final = "application/x-amz-json-1.1"
_SIGNED: Final = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"


def kept(secrets: Mapping[str, str]) -> dict[str, str]:
    """Those of a job's references that a cloud keeps."""
    return {name: reference for name, reference in secrets.items() if reference.partition(":")[0] in IN_A_CLOUD}


def unlock(secrets: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Their values. Blocks; for a thread. Raises PrepareError, which never holds a value."""
    found: dict[str, str] = {}
    for name, reference in kept(secrets).items():
        try:
            found[name] = _fetched(reference, own)
        except (LinkError, ConfigurationError, ValueError, KeyError, TypeError) as error:
            raise PrepareError(f"secret {name}", 1, f"{reference}: {_words(error)}") from error
        if "\0" in found[name] or len(found[name]) > SECRET_MAX:
            raise PrepareError(f"secret {name}", 1, f"{reference}: a NUL byte, or longer than {SECRET_MAX} characters")
    return found


def _words(error: Exception) -> str:
    """An answer of another form than was expected might be told in the error: then only that."""
    return str(error) if isinstance(error, LinkError | ConfigurationError) else "the answer has not the expected form"


def _fetched(reference: str, own: Mapping[str, str]) -> str:
    scheme, _, place = reference.partition(":")
    service = metadata(own)
    try:
        if scheme == "aws-sm" and isinstance(service, Imds):
            return _from_aws(service, place, own)
        if scheme == "gcp-sm" and isinstance(service, Gce):
            return _from_gcp(service, place, own)
    finally:
        service.close()
    raise LinkError(f"this machine is one of {service.flavour}, whose identity opens no {scheme}")


def _from_gcp(service: Gce, place: str, own: Mapping[str, str]) -> str:
    import base64

    granted = service.value("service-accounts/default/token")
    if granted is None:
        raise LinkError("the machine has no service account: [gcp] service_account")
    project, _, name = place.partition("/")
    base = own.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER", "https://secretmanager.googleapis.com").rstrip("/")
    path = f"/v1/projects/{quote(project, safe='')}/secrets/{quote(name, safe='')}/versions/latest:access"
    headers = {"authorization": f"Bearer {json.loads(granted)['access_token']}"}
    answer = _asked(base, "GET", path, b"", headers)
    return base64.b64decode(json.loads(answer.body)["payload"]["data"]).decode("utf-8")


def _from_aws(service: Imds, place: str, own: Mapping[str, str]) -> str:
    role = service.get(_ROLE)
    if not role:
        raise LinkError("the machine has no role: [aws] instance_profile")
    keys = json.loads(service.get(_ROLE + role.decode().split()[0]) or b"{}")
    region = (service.get("/latest/meta-data/placement/region") or b"").decode()
    base = own.get("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"https://secretsmanager.{region}.amazonaws.com").rstrip("/")
    body = json.dumps({"SecretId": place}).encode()
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    answer = _asked(base, "POST", "/", body, signed(keys, region, urlsplit(base).netloc, body, stamp))
    return str(json.loads(answer.body)["SecretString"])


def signed(keys: Mapping[str, Any], region: str, host: str, body: bytes, stamp: str) -> dict[str, str]:
    """The headers of a call of the Secrets Manager, with their signature. `stamp`: now, as 20260101T000000Z."""
    import hashlib
    import hmac

    def under(key: bytes, text: str) -> bytes:
        return hmac.new(key, text.encode(), hashlib.sha256).digest()

    told = {
        "content-type": _KIND,
        "host": host,
        "x-amz-date": stamp,
        "x-amz-security-token": str(keys["Token"]),
        "x-amz-target": _TARGET,
    }
    lines = "".join(f"{name}:{value}\n" for name, value in told.items())
    request = f"POST\n/\n\n{lines}\n{_SIGNED}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{stamp[:8]}/{region}/secretsmanager/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{keys['SecretAccessKey']}".encode()
    for part in scope.split("/"):
        key = under(key, part)
    signature = under(key, text).hex()
    by = f"AWS4-HMAC-SHA256 Credential={keys['AccessKeyId']}/{scope}, SignedHeaders={_SIGNED}, Signature={signature}"
    return {**{name: value for name, value in told.items() if name != "host"}, "authorization": by}


def _asked(base: str, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    link = Link(base)
    try:
        answer = link.request(method, path, body, headers, timeout_s=ANSWER_S)
    finally:
        link.close()
    if answer.status != 200:
        raise LinkError(f"{urlsplit(base).netloc} answered {answer.status} {_refusal(answer.body)}")
    return answer


def _refusal(body: bytes) -> str:
    """The cloud's own words for why not; of what else it may have sent nothing."""
    try:
        told = json.loads(body)
        told = told.get("error", told)
        return " ".join(str(told[key])[:200] for key in ("__type", "status", "Message", "message") if key in told)
    except (ValueError, AttributeError, TypeError):
        return ""
