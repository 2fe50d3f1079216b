"""Speak to AWS: boto3 in threads, behind one door. The library is loaded in a thread, at the first call.

It retries nothing by itself: EC2 says "sold out" with HTTP 500, and a library that retries server faults would lose
seconds per refusal and run into the request limit. Questions are repeated here, a few times; what changes the cloud
never is, but by whoever knows the token.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Final, TypeVar

from dsched.providers.aws.errors import from_answer, no_answer
from dsched.providers.aws.settings import Settings
from dsched.providers.base import Auth, Invalid, ProviderError, Scope, Throttled

T = TypeVar("T")
Json = dict[str, Any]

THREADS: Final = 16  # of one account: its calls at a time, and about as many connections
CONNECT_S: Final = 1.5  # AWS answers a SYN in a tenth
READ_S: Final = 10.0  # a page of a thousand instances
CHANGE_S: Final = 3.0  # beyond that a launch is Ambiguous, and repeated with its token: that costs less than waiting
POLL_S: Final = 20  # SQS holds a question so long
PAUSES_S: Final = (0.1, 0.4)  # between three tries of a question
PATIENCE_S: Final = 1.0  # a try that took longer is not repeated
PAGES_MAX: Final = 10_000  # a token that never ends is a fault of the other side
HOME: Final = {"pricing": "us-east-1", "savingsplans": "us-east-1"}  # services that live in one region only


_MAKING: Final = threading.Lock()  # sessions and descriptions may not be shared between threads, clients may


class Account:
    """Clients by (service, region), made once. `used` hears every action as IAM names it."""

    def __init__(self, settings: Settings, *, used: Callable[[str], None] | None = None) -> None:
        self._settings, self._used = settings, used
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="aws")
        self._session: Any = None
        self._clients: dict[tuple[str, str, float], Any] = {}

    async def ask(self, service: str, region: str, action: str, /, **what: Any) -> Json:
        """A question: repeated a few times when it was throttled or got no answer quickly. Raises ProviderError."""
        for pause in (*PAUSES_S, None):
            began = time.monotonic()
            try:
                return await self._in_thread(service, region, action, READ_S, what)
            except (Auth, Invalid):
                raise
            except ProviderError:
                if pause is None or time.monotonic() - began > PATIENCE_S:
                    raise
                await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    async def rows(self, service: str, region: str, action: str, key: str, /, **what: Any) -> list[Any]:
        """Every row under `key`, over all pages: one that does not come raises, and never shortens the list."""
        rows: list[Any] = []
        token: Mapping[str, str] = {}
        for _ in range(PAGES_MAX):
            page = await self.ask(service, region, action, **what, **token)
            rows += page.get(key, [])
            if not (following := page.get("NextToken")):
                return rows
            token = {"NextToken": following}
        raise ProviderError("TooManyPages", f"{action} in {region} has no last page", scope=Scope.REGION)

    async def change(self, service: str, region: str, action: str, /, **what: Any) -> Json:
        """One call, no repetition. Raises Ambiguous when it may have happened, else what AWS said."""
        return await self._in_thread(service, region, action, CHANGE_S, what, changes=True)

    def call(
        self, service: str, region: str, action: str, timeout_s: float, what: Json, *, changes: bool = False
    ) -> Json:
        """The call itself, in the thread of whoever calls. Raises ProviderError."""
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        try:
            answer: Json = getattr(self._client(service, region, timeout_s), action)(**what)
        except ClientError as error:
            raise from_answer(error.response, changes=changes) from error
        except (BotoCoreError, ResponseParserError, OSError) as error:
            raise _of_the_way(error, changes=changes) from error
        return answer

    async def _in_thread(
        self, service: str, region: str, action: str, timeout_s: float, what: Json, *, changes: bool = False
    ) -> Json:
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: self.call(service, region, action, timeout_s, what, changes=changes)
        )

    def _client(self, service: str, region: str, timeout_s: float) -> Any:
        key = (service, HOME.get(service, region), timeout_s)
        with _MAKING:
            if key not in self._clients:
                self._clients[key] = self._made(*key)
            return self._clients[key]

    def _made(self, service: str, region: str, timeout_s: float) -> Any:
        from botocore.config import Config

        if self._session is None:
            self._session = _session(self._settings.profile)
        config = Config(
            connect_timeout=CONNECT_S,
            read_timeout=timeout_s,
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=THREADS,
            tcp_keepalive=True,
            user_agent_extra="dsched",
        )
        endpoint = self._settings.endpoint or None
        client = self._session.client(service, region_name=region, endpoint_url=endpoint, config=config)
        if self._used is not None:
            client.meta.events.register("before-call", self._record)
        return client

    def _record(self, model: Any, **_: Any) -> None:
        assert self._used is not None
        self._used(f"{model.service_model.signing_name}:{model.name}")


@cache
def _descriptions() -> Any:
    """Of the services: EC2's alone has megabytes. Read once for all accounts of a process."""
    from botocore.loaders import create_loader

    return create_loader()


def _session(profile: str) -> Any:
    import boto3
    from botocore.session import Session

    core = Session(profile=profile or None)
    core.register_component("data_loader", _descriptions())
    return boto3.session.Session(botocore_session=core)


def _of_the_way(error: Exception, *, changes: bool) -> ProviderError:
    """What went wrong before or after AWS: credentials, parameters, the network, a proxy's page."""
    from botocore import exceptions

    code, text = type(error).__name__, str(error)
    if isinstance(
        error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError | exceptions.ProfileNotFound
    ):
        return Auth(code, f"{text}; see `aws configure` or the AWS_PROFILE of the daemon", scope=Scope.ACCOUNT)
    if isinstance(error, exceptions.ParamValidationError | exceptions.UnknownServiceError):
        return Invalid(code, text)
    if isinstance(error, exceptions.CredentialRetrievalError | exceptions.TokenRetrievalError):
        return Auth(code, text, scope=Scope.ACCOUNT)
    return no_answer(code, text, changes=changes)


class Bucket:
    """A token bucket: `rate` per second, `most` at once. Who would wait beyond `patience_s` is told to come again."""

    def __init__(
        self, rate: float, most: int, *, patience_s: float = 10.0, clock: Callable[[], float] = time.monotonic
    ):
        self._rate, self._most, self._patience_s, self._clock = rate, most, patience_s, clock
        self._full_at = clock()  # when the bucket will be full again

    async def take(self) -> None:
        """Raises Throttled: nothing was asked of the cloud."""
        now = self._clock()
        begin = max(self._full_at, now)
        wait = begin + 1 / self._rate - self._most / self._rate - now
        if wait > self._patience_s:
            raise Throttled("TooManyLaunches", f"the next one may go in {wait:.0f} s", scope=Scope.REGION)
        self._full_at = begin + 1 / self._rate
        if wait > 0:
            await asyncio.sleep(wait)
