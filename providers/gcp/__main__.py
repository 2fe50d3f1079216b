"""`python -m dsched.providers.gcp`: the custom role that a project needs, for `gcloud iam roles create --file`."""

from __future__ import annotations

import sys

from dsched.providers.gcp.permissions import role

if __name__ == "__main__":
    sys.stdout.write(role())
