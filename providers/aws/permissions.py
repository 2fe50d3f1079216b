"""What the daemon must be allowed to do at AWS: a policy made of the actions that the code calls, and of no other.

`python -m dsched.providers.aws.permissions` writes deploy/aws/iam.json. A test drives the provider through all that it
can do, records every call, and fails when one is missing here or one that stands here was never made.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

TAG: Final = "dsched:cluster"
_OURS: Final = {"StringLike": {f"aws:ResourceTag/{TAG}": "*"}}
_MARKED: Final = {"StringLike": {f"aws:RequestTag/{TAG}": "*"}}
_MACHINE: Final = "arn:aws:ec2:*:*:instance/*"
_GROUPS: Final = ("arn:aws:ec2:*:*:placement-group/*", "arn:aws:ec2:*:*:security-group/*")
_PARTS: Final = (  # what a launch touches besides the machine itself
    "arn:aws:ec2:*::image/*",
    "arn:aws:ec2:*:*:capacity-reservation/*",
    "arn:aws:ec2:*:*:network-interface/*",
    "arn:aws:ec2:*:*:placement-group/*",
    "arn:aws:ec2:*:*:security-group/*",
    "arn:aws:ec2:*:*:spot-instances-request/*",
    "arn:aws:ec2:*:*:subnet/*",
    "arn:aws:ec2:*:*:volume/*",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One statement of the policy."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...] = ("*",)
    condition: Mapping[str, Any] = field(default_factory=dict)
    implied: bool = False  # AWS asks for it on the way of another call; no call of ours has this name


GRANTS: Final = (
    Grant(
        sid="Look",  # none of these can be narrowed to resources
        actions=(
            "ec2:DescribeAvailabilityZones",
            "ec2:DescribeCapacityBlockOfferings",
            "ec2:DescribeCapacityReservations",
            "ec2:DescribeInstanceTypeOfferings",
            "ec2:DescribeInstanceTypes",
            "ec2:DescribeInstances",
            "ec2:DescribePlacementGroups",
            "ec2:DescribeReservedInstances",
            "ec2:DescribeSecurityGroups",
            "ec2:DescribeSpotPriceHistory",
            "ec2:DescribeSubnets",
            "ec2:GetSpotPlacementScores",
            "pricing:GetProducts",
            "savingsplans:DescribeSavingsPlans",
            "servicequotas:ListServiceQuotas",
        ),
    ),
    Grant(sid="LaunchOnlyWhatIsMarked", actions=("ec2:RunInstances",), resources=(_MACHINE,), condition=_MARKED),
    Grant(sid="LaunchFromParts", actions=("ec2:RunInstances",), resources=_PARTS),
    Grant(
        sid="MarkOnlyAtLaunch",
        actions=("ec2:CreateTags",),
        resources=("arn:aws:ec2:*:*:*/*",),
        condition={
            "StringEquals": {"ec2:CreateAction": ["RunInstances", "CreatePlacementGroup", "CreateSecurityGroup"]}
        },
        implied=True,
    ),
    Grant(
        sid="ConnectGangs",
        actions=("ec2:CreatePlacementGroup", "ec2:CreateSecurityGroup"),
        resources=_GROUPS,
        condition=_MARKED,
    ),
    Grant(
        sid="ConnectGangsWithinANetwork",
        actions=("ec2:CreateSecurityGroup",),
        resources=("arn:aws:ec2:*:*:vpc/*",),
    ),
    Grant(
        sid="OpenAndClearAwayOnlyOurs",
        actions=(
            "ec2:AuthorizeSecurityGroupEgress",
            "ec2:AuthorizeSecurityGroupIngress",
            "ec2:DeletePlacementGroup",
            "ec2:DeleteSecurityGroup",
        ),
        resources=_GROUPS,
        condition=_OURS,
    ),
    Grant(sid="EndOnlyOurs", actions=("ec2:TerminateInstances",), resources=(_MACHINE,), condition=_OURS),
    Grant(
        sid="HearHints",
        actions=("sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"),
        resources=("arn:aws:sqs:*:*:dsched*",),
    ),
    Grant(
        sid="FindTheImage",
        actions=("ssm:GetParameters",),
        resources=("arn:aws:ssm:*::parameter/aws/service/*",),
        implied=True,
    ),
    Grant(
        sid="LendTheNodeItsRole",
        actions=("iam:PassRole",),
        resources=("arn:aws:iam::*:role/dsched-*",),
        condition={"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}},
        implied=True,
    ),
    Grant(
        sid="FirstSpotMachineOfTheAccount",
        actions=("iam:CreateServiceLinkedRole",),
        resources=("arn:aws:iam::*:role/aws-service-role/spot.amazonaws.com/*",),
        condition={"StringEquals": {"iam:AWSServiceName": "spot.amazonaws.com"}},
        implied=True,
    ),
)
FREE: Final = frozenset({"sts:GetCallerIdentity"})  # needs no permission
_ASKED_AS: Final = {"sqs:DeleteMessageBatch": "sqs:DeleteMessage"}  # where IAM has another name for a call


class Ungranted(ValueError):
    """The code calls what the policy does not allow."""


def asked_as(called: Collection[str]) -> set[str]:
    """The actions that IAM asks for when these calls are made."""
    return {_ASKED_AS.get(name, name) for name in called} - FREE


def unused(called: Collection[str]) -> set[str]:
    """What is granted for calls that were not made."""
    granted = {action for grant in GRANTS if not grant.implied for action in grant.actions}
    return granted - asked_as(called)


def policy(called: Collection[str]) -> dict[str, Any]:
    """The least that lets these calls through. Raises Ungranted for one that no grant covers."""
    asked = asked_as(called)
    granted = {action for grant in GRANTS for action in grant.actions}
    if missing := asked - granted:
        raise Ungranted(f"no grant covers {', '.join(sorted(missing))}: add it to {__name__}.GRANTS")
    statements = [_statement(grant, asked) for grant in GRANTS]
    return {"Version": "2012-10-17", "Statement": [one for one in statements if one["Action"]]}


def _statement(grant: Grant, asked: Collection[str]) -> dict[str, Any]:
    actions = [action for action in grant.actions if grant.implied or action in asked]
    told: dict[str, Any] = {"Sid": grant.sid, "Effect": "Allow", "Action": actions, "Resource": list(grant.resources)}
    return {**told, "Condition": dict(grant.condition)} if grant.condition else told


def everything() -> dict[str, Any]:
    """The policy for all that the provider can do."""
    return policy({action for grant in GRANTS for action in grant.actions})


def text() -> str:
    return json.dumps(everything(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
