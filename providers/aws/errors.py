"""AWS's words for what went wrong, as errors typed by what happens next.

InsufficientInstanceCapacity comes as HTTP 500, as a server's fault would: it is told by its code, never by the status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from dsched.providers.base import Ambiguous, Auth, Capacity, Invalid, Price, ProviderError, Quota, Scope, Throttled
from dsched.scheduler.core.units import HOUR, MINUTE, Millis

SOLD_OUT: Final = Millis(5 * MINUTE)  # a drought must not become a storm of calls: one per pool in this time
UNSUPPORTED: Final = Millis(24 * HOUR)  # "not supported in this zone": seldom changes, but does

Kind = tuple[type[ProviderError], Scope, Millis | None]


def _all(kind: Kind, *codes: str) -> dict[str, Kind]:
    return dict.fromkeys(codes, kind)


KINDS: Final[Mapping[str, Kind]] = {
    **_all(
        (Capacity, Scope.POOL, SOLD_OUT),
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientCapacity",
        "InsufficientReservedInstanceCapacity",
        "ReservationCapacityExceeded",
        "UnfulfillableCapacity",
        "InsufficientCapacityOnHost",
        "SpotMarketCapacityOversubscribed",
    ),
    **_all((Capacity, Scope.POOL, UNSUPPORTED), "Unsupported", "UnsupportedOperation"),
    **_all(
        (Quota, Scope.REGION, None),
        "MaxSpotInstanceCountExceeded",
        "PlacementGroupLimitExceeded",
        "SecurityGroupLimitExceeded",
        "VcpuLimitExceeded",
        "InstanceLimitExceeded",
        "VolumeLimitExceeded",
        "InsufficientFreeAddressesInSubnet",
        "PrivateIpAddressLimitExceeded",
        "NetworkInterfaceLimitExceeded",
    ),
    **_all((Price, Scope.POOL, None), "SpotMaxPriceTooLow"),
    **_all(
        (Throttled, Scope.REGION, None),
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "EC2ThrottledException",
        "ResourceCountExceeded",
        "SlowDown",
    ),
    **_all(
        (Auth, Scope.ACCOUNT, None),
        "AuthFailure",
        "UnauthorizedOperation",
        "AccessDenied",
        "AccessDeniedException",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",  # the host's clock is wrong
        "SignatureDoesNotMatch",
        "OptInRequired",
        "Blocked",
        "PendingVerification",
        "MissingAuthenticationToken",
    ),
    # What a person has set up is wrong or gone: nothing in that region can start until it is mended.
    **_all(
        (Auth, Scope.REGION, None),
        "InvalidAMIID.NotFound",
        "InvalidAMIID.Unavailable",
        "InvalidAMIID.Malformed",
        "InvalidSubnetID.NotFound",
        "InvalidGroup.NotFound",
        "InvalidGroupId.Malformed",
        "VPCIdNotSpecified",
        "MissingInput",
    ),
}
_UNSURE: Final = ("InternalError", "InternalFailure", "Unavailable", "ServiceUnavailable", "RequestTimeout")
_MISSING: Final = re.compile(r"i-[0-9a-f]+")


def from_answer(answer: Mapping[str, Any], *, changes: bool) -> ProviderError:
    """The error of an answer as the library reads it. `changes`: the call may have had an effect."""
    told = answer.get("Error", {})
    code, message = str(told.get("Code", "Unknown")), str(told.get("Message", ""))
    if (kind := KINDS.get(code)) is not None:
        error, scope, cooldown = kind
        return error(code, message, scope=scope, cooldown=cooldown)
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
    if code in _UNSURE or status >= 500:
        return no_answer(code, message, changes=changes)
    return Invalid(code, message, scope=Scope.POOL)


def no_answer(code: str, message: str, *, changes: bool) -> ProviderError:
    """Nobody knows whether it happened; of a question that does not matter."""
    return (Ambiguous if changes else ProviderError)(code, message, scope=Scope.REGION)


def named_in(error: ProviderError) -> set[str]:
    """The instances that an error speaks of."""
    return set(_MISSING.findall(str(error)))
