"""What Google's words mean for us: by reason, never by status. Quota, throttle and missing permission are all 403."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from dsched.providers.base import Ambiguous, Auth, Capacity, Invalid, ProviderError, Quota, Scope, Throttled
from dsched.scheduler.core.units import MINUTE, Millis

Kind = tuple[type[ProviderError], Scope]

SOLD_OUT: Final = Millis(5 * MINUTE)  # a drought must not become a storm of calls: one per pool in this time

_CAPACITY: Final = (
    "ZONE_RESOURCE_POOL_EXHAUSTED",
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
    "RESOURCE_POOL_EXHAUSTED",
    "STOCKOUT",
    "insufficientCapacity",  # bulkInsert, at once
    "VM_MIN_COUNT_NOT_REACHED",  # bulkInsert, at the end
    "UNSUPPORTED_OPERATION",  # said of shapes that a zone does not sell just now
)
_QUOTA: Final = ("QUOTA_EXCEEDED", "quotaExceeded", "LIMIT_EXCEEDED", "limitExceeded")
_THROTTLED: Final = (
    "rateLimitExceeded",
    "userRateLimitExceeded",
    "RATE_LIMIT_EXCEEDED",
    "RESOURCE_OPERATION_RATE_EXCEEDED",
    "concurrentLimitExceeded",
)
_AUTH: Final = (
    "forbidden",
    "accessNotConfigured",
    "authError",
    "required",
    "PERMISSIONS_ERROR",
    "billingDisabled",
    "billingNotEnabled",
)
_AGAIN: Final = ("resourceNotReady", "RESOURCE_NOT_READY", "backendError", "internalError", "INTERNAL_ERROR")
_KINDS: Final[dict[str, Kind]] = {
    **dict.fromkeys(_CAPACITY, (Capacity, Scope.POOL)),
    **dict.fromkeys(_QUOTA, (Quota, Scope.REGION)),
    **dict.fromkeys(_THROTTLED, (Throttled, Scope.ACCOUNT)),
    **dict.fromkeys(_AUTH, (Auth, Scope.ACCOUNT)),
    **dict.fromkeys(_AGAIN, (Ambiguous, Scope.REQUEST)),
}
_VAGUE: Final = ("VM_MIN_COUNT_NOT_REACHED",)  # says that, not why: another error of the operation does
_STOCKOUT_WORDS: Final = (
    "does not have enough resources",
    "does not have available resources",
    "insufficient capacity",
)
ALREADY: Final = ("alreadyExists", "RESOURCE_ALREADY_EXISTS", "duplicate")


def told(code: str, message: str) -> ProviderError:
    """One reason of the API or of an operation. What is not known is Invalid: nobody should repeat it unread."""
    kind, scope = _KINDS.get(code, (Invalid, Scope.REQUEST))
    if kind is Invalid and any(words in message.lower() for words in _STOCKOUT_WORDS):
        kind, scope = Capacity, Scope.POOL
    if kind is Quota and "globally" in message:
        scope = Scope.ACCOUNT
    return kind(code, message, scope=scope, cooldown=SOLD_OUT if kind is Capacity else None)


def failed(errors: Iterable[tuple[str, str]]) -> ProviderError:
    """An operation that was accepted and then failed: its first error that says why."""
    rows = list(errors)
    code, message = next((row for row in rows if row[0] not in _VAGUE), rows[0])
    return told(code, message)


def raised() -> tuple[type[Exception], ...]:
    """What a call of the library can raise for reasons outside this process."""
    import requests.exceptions
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from google.protobuf import json_format  # type: ignore[import-untyped]

    return (api.GoogleAPIError, auth.GoogleAuthError, requests.exceptions.RequestException, json_format.ParseError)


def translate(error: Exception) -> ProviderError:
    """What a call raised, as one of ours."""
    import requests.exceptions
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth

    cause = getattr(error, "cause", None)
    error = cause if isinstance(cause, Exception) else error
    words = str(error)
    if isinstance(error, ProviderError):
        return error
    if isinstance(error, requests.exceptions.RequestException | api.RetryError):
        return Ambiguous(type(error).__name__, words, scope=Scope.REGION)  # api_core lets these through as they are
    if isinstance(error, auth.TransportError):
        return Ambiguous(type(error).__name__, words, scope=Scope.ACCOUNT)
    if isinstance(error, auth.GoogleAuthError):
        return Auth(type(error).__name__, words, scope=Scope.ACCOUNT)
    if not isinstance(error, api.GoogleAPICallError):
        return Ambiguous(type(error).__name__, words)  # a proxy's page instead of JSON, a cut connection
    return _answered(error, api)


def _answered(error: Any, api: Any) -> ProviderError:
    """An HTTP error with Google's JSON in it, or only with its status."""
    rows = [row for row in (error.errors or ()) if isinstance(row, dict)]
    reason = next((str(row["reason"]) for row in rows if "reason" in row), "")
    message, status = str(error.message), int(error.code or 0)
    if reason in _KINDS or (reason and status < 500 and status not in (401, 403, 429)):
        return told(reason, message)
    if isinstance(error, api.TooManyRequests):
        return Throttled(reason or "429", message, scope=Scope.ACCOUNT)
    if status in (401, 403):
        return Auth(reason or str(status), message, scope=Scope.ACCOUNT)
    if status >= 500:
        return Ambiguous(reason or str(status), message, scope=Scope.REGION)
    return told(reason or str(status), message)


def retriable(error: Exception) -> bool:
    """A read that may be asked again at once: throttled, or the service's own trouble. Not a cloud that is away."""
    import requests.exceptions

    if isinstance(error, requests.exceptions.RequestException):
        return False
    return isinstance(translate(error), Throttled | Ambiguous)
