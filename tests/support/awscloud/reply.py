"""What an answer looks like on the wire."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from xml.sax.saxutils import escape

from tests.support.awscloud.call import Call

Reply = tuple[str, list[tuple[str, str]], bytes]  # status, headers, body


def xml_reply(call: Call, inner: str) -> Reply:
    space = "http://ec2.amazonaws.com/doc/2016-11-15/"
    name = f"{call.action}Response"
    text = f'<?xml version="1.0"?><{name} xmlns="{space}"><requestId>r</requestId>{inner}</{name}>'
    return "200 OK", [("Content-Type", "text/xml")], text.encode()


def json_reply(answer: Any) -> Reply:
    return "200 OK", [("Content-Type", "application/x-amz-json-1.1")], json.dumps(answer).encode()


def refusal(call: Call, code: str, message: str = "", status: int = 400) -> Reply:
    if call.service == "ec2":
        error = f"<Errors><Error><Code>{code}</Code><Message>{escape(message or code)}</Message></Error></Errors>"
        body = f"<?xml version='1.0'?><Response>{error}<RequestID>r</RequestID></Response>"
        return f"{status} Refused", [("Content-Type", "text/xml")], body.encode()
    if call.service == "sts":
        error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(message or code)}</Message></Error>"
        body = f"<ErrorResponse>{error}<RequestId>r</RequestId></ErrorResponse>"
        return f"{status} Refused", [("Content-Type", "text/xml")], body.encode()
    body = json.dumps({"__type": code, "message": message or code})
    headers = [("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-errortype", code)]
    return f"{status} Refused", headers, body.encode()


def page(call: Call, rows: list[Any], *, most: int, size: str = "MaxResults") -> tuple[list[Any], str]:
    """One page of the rows, and the token of the next or ""."""
    start = int(call.parameters.get("NextToken") or 0)
    end = start + min(int(call.parameters.get(size) or most), most)
    return rows[start:end], str(end) if end < len(rows) else ""


def items(rows: Iterable[dict[str, Any]]) -> str:
    """Rows as EC2's XML lists them; what begins with an underscore is our own."""
    return "".join(f"<item>{_fields(row)}</item>" for row in rows)


def _fields(row: dict[str, Any]) -> str:
    told = {key: value for key, value in row.items() if not key.startswith("_")}
    return "".join(
        f"<{key}>{items(value) if isinstance(value, list) else escape(str(value))}</{key}>"
        for key, value in told.items()
    )
