"""What a person sets up once at AWS for the daemon: a policy, and in every region a queue that EC2's events fill.

All of it is made of the calls that the code makes (permissions.py) and of the events that it understands (notices.py).
The same things three ways: files for the aws command, CloudFormation, Terraform.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from dsched.providers.aws.notices import ENDS, KINDS
from dsched.providers.aws.permissions import everything
from dsched.providers.base import NoticeKind

POLICY_MAX: Final = 6_144  # characters of a managed policy, white space not counted
KEPT_S: Final = 3_600  # a hint that nobody heard for an hour says nothing any more
NAME: Final = "dsched"
HEAD: Final = "Made by `dsched setup aws` from the calls that the code makes. Do not edit: make it again."

Json = dict[str, Any]


def files(regions: Sequence[str], queue: str) -> dict[str, str]:
    """Name -> text. `queue`: its name, the same in every region; the policy lets it begin with dsched."""
    return {
        "policy.json": json.dumps(everything(), indent=2) + "\n",
        "iam.yaml": yaml(iam_stack()),
        "notices.yaml": yaml(notices_stack(queue)),
        "main.tf": terraform(regions, queue),
        "apply.sh": commands(regions, queue),
    }


def pattern() -> Json:
    """The events that the code understands, and of changes of state only the ends."""
    plain = sorted(name for name, kind in KINDS.items() if kind is not NoticeKind.GONE)
    ends = sorted(name for name, kind in KINDS.items() if kind is NoticeKind.GONE)
    told = {"detail-type": plain}
    return {"$or": [told, {"detail-type": ends, "detail": {"state": sorted(ENDS)}}], "source": ["aws.ec2"]}


def iam_stack() -> Json:
    """CloudFormation, once for the account."""
    policy = {"ManagedPolicyName": NAME, "PolicyDocument": everything()}
    resources = {"Policy": {"Type": "AWS::IAM::ManagedPolicy", "Properties": policy}}
    return _stack(resources, {"Policy": {"Value": {"Ref": "Policy"}}})


def notices_stack(queue: str) -> Json:
    """CloudFormation, once for each region."""
    rule = {"EventPattern": pattern(), "Targets": [{"Id": "queue", "Arn": {"Fn::GetAtt": ["Queue", "Arn"]}}]}
    allowed = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": {"Fn::GetAtt": ["Queue", "Arn"]},
        "Condition": {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["Rule", "Arn"]}}},
    }
    document = {"Version": "2012-10-17", "Statement": [allowed]}
    kept = {"QueueName": queue, "MessageRetentionPeriod": KEPT_S, "SqsManagedSseEnabled": True}
    resources = {
        "Queue": {"Type": "AWS::SQS::Queue", "Properties": kept},
        "Rule": {"Type": "AWS::Events::Rule", "Properties": rule},
        "QueuePolicy": {
            "Type": "AWS::SQS::QueuePolicy",
            "Properties": {"Queues": [{"Ref": "Queue"}], "PolicyDocument": document},
        },
    }
    return _stack(resources, {"Queue": {"Value": {"Fn::GetAtt": ["Queue", "QueueName"]}}})


def _stack(resources: Json, outputs: Json) -> Json:
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": HEAD,
        "Resources": resources,
        "Outputs": outputs,
    }


def commands(regions: Sequence[str], queue: str) -> str:
    """A script for the aws command. It changes the account of whoever runs it."""
    deploy = "aws cloudformation deploy --no-fail-on-empty-changeset"
    lines = [
        "#!/bin/sh",
        f"# {HEAD}",
        "# Run it as somebody who may make policies, queues and rules; then give the policy to the daemon's role:",
        f"#   aws iam attach-role-policy --role-name ROLE --policy-arn arn:aws:iam::ACCOUNT:policy/{NAME}",
        "set -eu",
        'cd "$(dirname "$0")"',
        f"{deploy} --region {regions[0]} --stack-name {NAME}-iam --template-file iam.yaml \\",
        "  --capabilities CAPABILITY_NAMED_IAM",
        *(f"{deploy} --region {region} --stack-name {NAME}-notices --template-file notices.yaml" for region in regions),
        f"echo 'now: queue = \"{queue}\" in [aws] of config.toml'",
    ]
    return "\n".join(lines) + "\n"


def terraform(regions: Sequence[str], queue: str) -> str:
    policy = "\n".join(f"  {line}" for line in json.dumps(everything(), indent=2).splitlines())
    parts = [
        f"# {HEAD}",
        "",
        "terraform {",
        "  required_providers {",
        "    aws = {",
        '      source  = "hashicorp/aws"',
        '      version = ">= 5.0"',
        "    }",
        "  }",
        "}",
        "",
        'provider "aws" {',
        f'  region = "{regions[0]}"',
        "}",
        "",
        'resource "aws_iam_policy" "dsched" {',
        f'  name   = "{NAME}"',
        "  policy = <<-POLICY",
        policy,
        "  POLICY",
        "}",
        "",
        'output "policy_arn" {',
        "  value = aws_iam_policy.dsched.arn",
        "}",
        *(line for region in regions for line in _in_region(region, queue)),
    ]
    return "\n".join(parts) + "\n"


def _in_region(region: str, queue: str) -> list[str]:
    name, told = region.replace("-", "_"), json.dumps(pattern(), separators=(",", ":"))
    allowed = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": f"${{aws_sqs_queue.{name}.arn}}",
        "Condition": {"ArnEquals": {"aws:SourceArn": f"${{aws_cloudwatch_event_rule.{name}.arn}}"}},
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]}, separators=(",", ":"))
    return [
        "",
        'provider "aws" {',
        f'  alias  = "{name}"',
        f'  region = "{region}"',
        "}",
        "",
        f'resource "aws_sqs_queue" "{name}" {{',
        f"  provider                  = aws.{name}",
        f'  name                      = "{queue}"',
        f"  message_retention_seconds = {KEPT_S}",
        "  sqs_managed_sse_enabled   = true",
        "}",
        "",
        f'resource "aws_cloudwatch_event_rule" "{name}" {{',
        f"  provider      = aws.{name}",
        f'  name          = "{NAME}-notices"',
        "  event_pattern = <<-PATTERN",
        f"  {told}",
        "  PATTERN",
        "}",
        "",
        f'resource "aws_cloudwatch_event_target" "{name}" {{',
        f"  provider = aws.{name}",
        f"  rule     = aws_cloudwatch_event_rule.{name}.name",
        f"  arn      = aws_sqs_queue.{name}.arn",
        "}",
        "",
        f'resource "aws_sqs_queue_policy" "{name}" {{',
        f"  provider  = aws.{name}",
        f"  queue_url = aws_sqs_queue.{name}.url",
        "  policy    = <<-POLICY",
        f"  {document}",
        "  POLICY",
        "}",
    ]


def yaml(told: Json) -> str:
    """The little of YAML that these files need: maps, lists, and scalars as JSON writes them."""
    return f"# {HEAD}\n" + "\n".join(_yaml(told, 0)) + "\n"


def _yaml(told: Any, depth: int) -> list[str]:
    pad = "  " * depth
    if isinstance(told, dict):
        lines: list[str] = []
        for key, value in told.items():
            name = key if key.replace("::", "").replace("-", "").isalnum() and "::" not in key else json.dumps(key)
            if isinstance(value, dict | list) and value:
                lines += [f"{pad}{name}:", *_yaml(value, depth + 1)]
            else:
                lines.append(f"{pad}{name}: {json.dumps(value)}")
        return lines
    lines = []
    for value in told:
        if isinstance(value, dict | list) and value:
            first, *rest = _yaml(value, depth + 1)
            lines += [f"{pad}- {first.lstrip()}", *rest]
        else:
            lines.append(f"{pad}- {json.dumps(value)}")
    return lines
