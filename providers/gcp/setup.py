"""What a person sets up once in a Google Cloud project for the daemon: a role, and an account that has it.

The role is made of the calls that the code makes (permissions.py). The same two ways: gcloud, Terraform.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dsched.providers.gcp.permissions import METHODS, role

ROLE: Final = "dsched"
ACCOUNT: Final = "dsched-daemon"
SERVICES: Final = (  # the APIs that the calls belong to
    "compute.googleapis.com",
    "cloudbilling.googleapis.com",
    "cloudresourcemanager.googleapis.com",
)
HEAD: Final = "Made by `dsched setup gcp` from the calls that the code makes. Do not edit: make it again."


def files(project: str) -> dict[str, str]:
    """Name -> text."""
    return {"role.yaml": role(), "main.tf": terraform(project), "apply.sh": commands(project)}


def permissions() -> Sequence[str]:
    return sorted({permission for needed in METHODS.values() for permission in needed})


def commands(project: str) -> str:
    """A script for gcloud. It changes the project; what is there already is changed to what the role needs now."""
    member = f"serviceAccount:{ACCOUNT}@{project}.iam.gserviceaccount.com"
    role, email = f"projects/{project}/roles/{ROLE}", member.partition(":")[2]
    lines = [
        "#!/bin/sh",
        f"# {HEAD}",
        "# Run it as an owner of the project. Nodes that run as a service account of their own need one thing more:",
        f"#   gcloud iam service-accounts add-iam-policy-binding NODE_ACCOUNT --project {project} \\",
        f"#     --member {member} --role roles/iam.serviceAccountUser",
        "set -eu",
        'cd "$(dirname "$0")"',
        f"gcloud services enable {' '.join(SERVICES)} --project {project}",
        f"if gcloud iam roles describe {ROLE} --project {project} >/dev/null 2>&1; then",
        f"  gcloud iam roles update {ROLE} --project {project} --file role.yaml --quiet",
        "else",
        f"  gcloud iam roles create {ROLE} --project {project} --file role.yaml --quiet",
        "fi",
        f"if ! gcloud iam service-accounts describe {email} --project {project} >/dev/null 2>&1; then",
        f"  gcloud iam service-accounts create {ACCOUNT} --project {project} --display-name 'dsched daemon'",
        "fi",
        f"gcloud projects add-iam-policy-binding {project} \\",
        f"  --member {member} --role {role} --condition None >/dev/null",
        "echo 'now run the daemon as that account, or on a machine that is it'",
    ]
    return "\n".join(lines) + "\n"


def terraform(project: str) -> str:
    lines = [
        f"# {HEAD}",
        "",
        "terraform {",
        "  required_providers {",
        "    google = {",
        '      source  = "hashicorp/google"',
        '      version = ">= 5.0"',
        "    }",
        "  }",
        "}",
        "",
        'provider "google" {',
        f'  project = "{project}"',
        "}",
        "",
        'resource "google_project_service" "dsched" {',
        "  for_each = toset([",
        *(f'    "{service}",' for service in SERVICES),
        "  ])",
        "  service            = each.value",
        "  disable_on_destroy = false",
        "}",
        "",
        'resource "google_project_iam_custom_role" "dsched" {',
        f'  role_id = "{ROLE}"',
        f'  title   = "{ROLE}"',
        "  permissions = [",
        *(f'    "{permission}",' for permission in permissions()),
        "  ]",
        "}",
        "",
        'resource "google_service_account" "daemon" {',
        f'  account_id   = "{ACCOUNT}"',
        '  display_name = "dsched daemon"',
        "}",
        "",
        'resource "google_project_iam_member" "daemon" {',
        f'  project = "{project}"',
        "  role    = google_project_iam_custom_role.dsched.id",
        '  member  = "serviceAccount:${google_service_account.daemon.email}"',
        "}",
    ]
    return "\n".join(lines) + "\n"
