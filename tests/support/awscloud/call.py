"""One request to the cloud, read: which service, which action, which parameters."""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import parse_qsl

Environ = dict[str, Any]
CREDENTIAL: Final = re.compile(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/aws4_request")


class Call:
    def __init__(self, environ: Environ) -> None:
        match = CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
        self.region, self.service = match.groups() if match else ("us-east-1", "")
        self.environ, self.body = environ, b""
        self.parameters: dict[str, Any] = {}
        self.action = ""
        self.era = 0  # of the market that it was sent to

    def read(self) -> Call:
        environ = self.environ
        self.body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if target := environ.get("HTTP_X_AMZ_TARGET"):
            self.action, self.parameters = target.rsplit(".", 1)[-1], json.loads(self.body or b"{}")
        elif environ.get("CONTENT_TYPE", "").startswith("application/x-www-form"):
            self.parameters = dict(parse_qsl(self.body.decode(), keep_blank_values=True))
            self.action = self.parameters.get("Action", "")
        else:
            self.action = environ.get("PATH_INFO", "").strip("/")
            self.parameters = json.loads(self.body) if self.body[:1] == b"{" else {}
        return self

    def several(self, name: str) -> list[str]:
        """The values of a list such as InstanceId.1, InstanceId.2, in their order."""
        known = re.compile(rf"{re.escape(name)}\.(\d+)")
        found = [(int(m[1]), value) for key, value in self.parameters.items() if (m := known.fullmatch(key))]
        return [value for _, value in sorted(found)]

    def filters(self) -> dict[str, list[str]]:
        names = {k.split(".")[1]: v for k, v in self.parameters.items() if re.fullmatch(r"Filter\.\d+\.Name", k)}
        return {name: self.several(f"Filter.{place}.Value") for place, name in names.items()}
