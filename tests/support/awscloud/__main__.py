"""The cloud as a process: `python -m tests.support.awscloud [PORT]` prints its address, and ends with its input."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import make_server

from tests.support.awscloud.front import Front


class Quiet(MotoRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as EC2 keeps them

    def log_request(self, *_: Any, **__: Any) -> None: ...

    def connection_dropped(self, *_: Any) -> None:
        self.close_connection = True  # else the client waits for its answer until it loses patience

    def log(self, *_: Any, **__: Any) -> None: ...


def main() -> None:
    logging.disable(logging.CRITICAL)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    server = make_server("127.0.0.1", port, Front(), threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()  # whoever started it holds the other end, and may be killed
    os._exit(0)  # replies may still be under way to nobody


main()
