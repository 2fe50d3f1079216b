"""Why a call of an agent is not granted: one class per answer that the agent must act on."""

from __future__ import annotations


class AgentError(Exception):
    """A call of an agent that is not granted."""


class Unknown(AgentError):
    """This node is not ours any more: it stops its ranks and ends."""


class Stranger(AgentError):
    """The node is ours, the session is not known (any more): hello again."""


class Forbidden(AgentError):
    """Wrong secret, or a job that is not this node's."""


class Doubled(AgentError):
    """Another start of this node's agent was heard a moment ago, and may live: hello again after `wait_s`."""

    def __init__(self, message: str, wait_s: int) -> None:
        super().__init__(message)
        self.wait_s = wait_s
