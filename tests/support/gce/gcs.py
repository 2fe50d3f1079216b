"""Google Cloud Storage in memory: the XML API that objects are read and written by. obstore talks to it over HTTP.

Whole objects, ranges, lists by prefix, multipart uploads, and `x-goog-if-generation-match`: 0 is "only if not there".
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import threading
import time
import uuid
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

Key = tuple[str, str]  # bucket, name
Reply = tuple[int, dict[str, str], bytes]
RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True, slots=True)
class Stored:
    data: bytes
    generation: int
    at: float

    @property
    def headers(self) -> dict[str, str]:
        return {
            "ETag": f'"{hashlib.md5(self.data).hexdigest()}"',
            "x-goog-generation": str(self.generation),
            "Last-Modified": formatdate(self.at, usegmt=True),
        }


class FakeGcs:
    """Buckets come into being with their first object. `url` serves all of them."""

    def __init__(self) -> None:
        self.objects: dict[Key, Stored] = {}
        self.calls: list[str] = []  # "METHOD /bucket/name"
        self._uploads: dict[str, dict[int, bytes]] = {}
        self._generations = itertools.count(1_700_000_000_000_001)
        self._lock = threading.RLock()
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                front._answer(self)

            do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

        self._server = _Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def account_key(self) -> str:
        """GOOGLE_SERVICE_ACCOUNT_KEY of a client that is to come here: the only way to tell obstore of another host."""
        nobody = {"client_email": "", "private_key": "", "private_key_id": ""}
        return json.dumps({"gcs_base_url": self.url, "disable_oauth": True, **nobody})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        bucket, _, name = unquote(parts.path).lstrip("/").partition("/")
        query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        with self._lock:
            self.calls.append(f"{handler.command} {parts.path}")
            if name:
                status, headers, data = self._object(handler, (bucket, name), query, body)
            else:
                status, headers, data = self._list(bucket, query)
        handler.send_response(status)
        for key, value in headers.items():
            handler.send_header(key, value)
        if "Content-Length" not in headers and status != 204:
            handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        if handler.command != "HEAD" and status != 204:
            handler.wfile.write(data)

    def _object(self, handler: BaseHTTPRequestHandler, key: Key, query: dict[str, str], body: bytes) -> Reply:
        match handler.command:
            case "PUT" if "uploadId" in query:
                self._uploads[query["uploadId"]][int(query["partNumber"])] = body
                return 200, {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}, b""
            case "PUT":
                return self._store(handler, key, body)
            case "POST" if "uploads" in query:
                upload = uuid.uuid4().hex
                self._uploads[upload] = {}
                return _xml("InitiateMultipartUploadResult", Bucket=key[0], Key=key[1], UploadId=upload)
            case "POST":
                parts = self._uploads.pop(query["uploadId"])
                status, headers, data = self._store(handler, key, b"".join(parts[n] for n in sorted(parts)))
                return (status, headers, data) if status != 200 else _xml("CompleteMultipartUploadResult", **headers)
            case "DELETE" if "uploadId" in query:
                self._uploads.pop(query["uploadId"], None)
                return 204, {}, b""
            case "DELETE":
                return (204, {}, b"") if self.objects.pop(key, None) else _missing()
        return self._read(handler, key)

    def _store(self, handler: BaseHTTPRequestHandler, key: Key, body: bytes) -> Reply:
        wanted, there = handler.headers.get("x-goog-if-generation-match"), self.objects.get(key)
        if wanted is not None and wanted != str(there.generation if there else 0):
            return 412, {}, b"<?xml version='1.0'?><Error><Code>PreconditionFailed</Code></Error>"
        self.objects[key] = Stored(body, next(self._generations), time.time())
        return 200, self.objects[key].headers, b""

    def _read(self, handler: BaseHTTPRequestHandler, key: Key) -> Reply:
        found = self.objects.get(key)
        if found is None:
            return _missing()
        if ranged := RANGE.fullmatch(handler.headers.get("Range", "")):
            first, last = int(ranged[1]), min(int(ranged[2] or 1 << 62), len(found.data) - 1)
            told = {**found.headers, "Content-Range": f"bytes {first}-{last}/{len(found.data)}"}
            return 206, told, found.data[first : last + 1]
        return 200, {**found.headers, "Content-Length": str(len(found.data))}, found.data

    def _list(self, bucket: str, query: dict[str, str]) -> Reply:
        prefix, cut = query.get("prefix", ""), query.get("delimiter", "")
        rows, folders = [], set()
        for (where, name), one in sorted(self.objects.items()):
            if where != bucket or not name.startswith(prefix):
                continue
            rest = name[len(prefix) :]
            if cut and cut in rest:
                folders.add(prefix + rest.split(cut)[0] + cut)
                continue
            when = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(one.at))
            rows.append(
                f"<Contents><Key>{escape(name)}</Key><Generation>{one.generation}</Generation><LastModified>{when}"
                f"</LastModified><ETag>{escape(one.headers['ETag'])}</ETag><Size>{len(one.data)}</Size></Contents>"
            )
        rows += [f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in sorted(folders)]
        text = f"<ListBucketResult><Name>{bucket}</Name><IsTruncated>false</IsTruncated>{''.join(rows)}"
        return 200, {"Content-Type": "application/xml"}, f"<?xml version='1.0'?>{text}</ListBucketResult>".encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        return  # a job that was killed in the middle of a call


def _xml(kind: str, **fields: Any) -> Reply:
    told = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in fields.items())
    return 200, {"Content-Type": "application/xml"}, f"<?xml version='1.0'?><{kind}>{told}</{kind}>".encode()


def _missing() -> Reply:
    return 404, {}, b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code><Message>not there</Message></Error>"
