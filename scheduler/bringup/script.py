"""User-data: the shell script by which a bare machine becomes a node, the same bytes for every repeat of a launch.

What must hold is done first: a loop outside of everything else ends the machine with its lease, also after a reboot.
The agent moves that end when its lease is renewed (`lease` holds it, in seconds since the epoch). Then the agent is
fetched by the digest of its bytes, so that it does not matter whom it comes from, and started again when it dies.

Whoever runs on the machine can read its user-data: nothing durable is in it. The secret opens one session, once,
within a quarter of an hour; see engine/desk.py.

The script finds its way by three variables that a real machine does not set, and machines that are only played do:
DSCHED_NODE_DIR (where it may write), DSCHED_UNITS (where units of systemd go; empty: there is no systemd), DSCHED_OFF
(how to turn the machine off).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Final

from dsched.scheduler.bringup.code import PYTHON
from dsched.scheduler.wire.agent import UserData

BYTES_MAX: Final = 4 * 1024  # EC2 takes 16 KiB; a quarter of it can still be read by a person in a console
RESTARTS: Final = 5  # of an agent that dies of a fault: then the machine is turned off, and replaced

_SCRIPT: Final = """\
#!/bin/sh
# dsched: this machine ends with its lease, whatever else happens; then its agent, known by its digest.
D=${DSCHED_NODE_DIR:-/var/lib/dsched-node} U=${DSCHED_UNITS-/etc/systemd/system}
mkdir -p "$D" && cd "$D" || { D=$(mktemp -d) && cd "$D"; }
[ -s lease ] || echo @LEASE@ >lease
cat >deadman <<'END'
while left=$(($(cat lease) - $(date +%s))); [ "$left" -gt 0 ]; do sleep $((left > 30 ? 30 : left)); done
. ./off
END
echo 'echo "dsched: off"; eval "${DSCHED_OFF:-systemctl poweroff -f || poweroff -f}"; sleep 60' >off
unit() { cat >"$U/dsched-$1.service" <<END
[Unit]
Description=dsched $1
[Service]
WorkingDirectory=$D
ExecStart=/bin/sh $1
Environment=HOME=/root
Restart=always
KillMode=process
OOMScoreAdjust=-900
TasksMax=infinity
[Install]
WantedBy=multi-user.target
END
}
up() {
  if [ "$U" ] && command -v systemctl >/dev/null && unit "$1" && systemctl daemon-reload &&
    systemctl enable --now "dsched-$1"; then return; fi
  setsid sh "$1" </dev/null >>"$1.log" 2>&1 &
}
up deadman
(umask 077; cat >node.json) <<'END'
@DATA@
END
cat >fetch.py <<'END'
import hashlib,os,ssl,sys,time,urllib.request as r
def good(b): return hashlib.sha256(b).hexdigest()==sys.argv[1]
c=ssl._create_unverified_context()
while not (os.path.exists("agent.pyz") and good(open("agent.pyz","rb").read())):
    for a in sys.argv[2:]:
        try:
            b=r.urlopen(a,context=c,timeout=20).read(1<<22)
            if not good(b): raise ValueError("other bytes than were wanted")
            open("new","wb").write(b); os.replace("new","agent.pyz")
            break
        except Exception as e: print("dsched:",a[:80],e,flush=True)
    else: time.sleep(2)
END
cat >agent <<'END'
for P in python3.14 python3.13 python3.12 python3.11 python3 ""; do
  command -v "$P" >/dev/null && "$P" -c 'import sys;sys.exit(sys.version_info<@PYTHON@)' 2>/dev/null && break
done
[ "$P" ] || { echo "dsched: this image has no Python of @PYTHON@ or newer"; . ./off; exit; }
"$P" fetch.py @DIGEST@ @SOURCES@
export DSCHED_NODE_DIR="$PWD" DSCHED_USER_DATA="$PWD/node.json" DSCHED_LEASE="$PWD/lease"
export DSCHED_METADATA_FLAVOUR=@FLAVOUR@
for n in @RESTARTS@; do
  "$P" agent.pyz
  case $? in 0|69|78) break;; esac
  sleep 5
done
. ./off
END
up agent
"""


class ScriptTooLong(ValueError):
    """The launch carries more than user-data should hold; shorter addresses help."""


def start_script(data: UserData, *, flavour: str, sha256: str, sources: Sequence[str]) -> str:
    """The script for a machine of this launch. `flavour`: whose metadata service it has, "aws" or "gcp".

    `sources`: URLs of the agent's code, tried in turn until one gives bytes of this digest. Raises ScriptTooLong.
    """
    values = {
        "LEASE": str(-(-data["lease_until"] // 1000)),
        "PYTHON": f"({PYTHON[0]},{PYTHON[1]})",
        "DIGEST": sha256,
        "SOURCES": " ".join(shlex.quote(source) for source in sources),
        "FLAVOUR": flavour,
        "RESTARTS": " ".join(str(turn) for turn in range(1, RESTARTS + 1)),
        "DATA": json.dumps(data, sort_keys=True),  # last: nothing in it is replaced
    }
    script = _SCRIPT
    for name, value in values.items():
        script = script.replace(f"@{name}@", value)
    if (size := len(script.encode())) > BYTES_MAX:
        raise ScriptTooLong(f"user-data of {size} bytes, {BYTES_MAX} are the most; shorten the addresses in [nodes]")
    return script
