"""Figures for Prometheus, computed when they are asked for: nothing is counted twice, nothing goes stale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from dsched.scheduler.api.context import Api
from dsched.scheduler.api.rows import burn
from dsched.scheduler.core.budget import totals
from dsched.scheduler.core.ledger import open_charge
from dsched.scheduler.core.snapshot import State
from dsched.scheduler.core.state import JobState, NodeState
from dsched.scheduler.core.units import MICRO, Charge, Moment, to_micro_usd


def exposition(api: Api) -> bytes:
    """The text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Daemon(api))
    return generate_latest(registry)


class _Daemon(Collector):
    def __init__(self, api: Api) -> None:
        self._api = api

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        api = self._api
        state, now = api.control.state, api.control.now()
        yield from _counts(state)
        yield from _money(state, now)
        yield from _providers(api)
        yield GaugeMetricFamily("dsched_event_seq", "Last durable event", value=api.feed.last_seq)
        yield GaugeMetricFamily("dsched_streams", "Open event streams and followed logs", value=api.streams.open)
        yield _latencies(api)
        for name, value in sorted(api.extras.gauges().items()):
            yield GaugeMetricFamily(f"dsched_{name}", name.replace("_", " "), value=value)


def _counts(state: State) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("dsched_jobs", "Jobs in memory by state", labels=["state"])
    for job_state, count in _by(JobState, Counter(job.state for job in state.jobs.values())):
        jobs.add_metric([job_state], count)
    yield jobs
    nodes = GaugeMetricFamily("dsched_nodes", "Nodes by state", labels=["state"])
    for node_state, count in _by(NodeState, Counter(node.state for node in state.nodes.values())):
        nodes.add_metric([node_state], count)
    yield nodes


def _by(
    states: type[JobState] | type[NodeState], counts: Counter[JobState] | Counter[NodeState]
) -> list[tuple[str, int]]:
    """Every state, also those with nothing in them: a series that comes and goes cannot be alerted on."""
    held: dict[str, int] = {str(state): count for state, count in counts.items()}
    return [(str(state), held.get(str(state), 0)) for state in states]


def _money(state: State, now: Moment) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "dsched_burn_usd_per_hour", "What runs costs per hour", value=burn(state.nodes.values()) / MICRO
    )
    spent = CounterMetricFamily("dsched_spent_usd", "Spent, open intervals included", labels=["budget"])
    ahead = GaugeMetricFamily("dsched_reserved_usd", "Held back for leases", labels=["budget"])
    for name, (owed, held) in totals(state, now).items():
        spent.add_metric([name], to_micro_usd(owed) / MICRO)
        ahead.add_metric([name], to_micro_usd(held) / MICRO)
    yield spent
    yield ahead
    saved = sum(job.baseline - job.spent for job in state.jobs.values())
    for node in state.nodes.values():
        if node.job:
            owed, baseline = open_charge(node, now.market)
            saved += baseline - owed
    yield GaugeMetricFamily(
        "dsched_saved_usd", "Below on-demand, of the jobs in memory", value=to_micro_usd(Charge(saved)) / MICRO
    )


def _providers(api: Api) -> Iterator[Metric]:
    up = GaugeMetricFamily("dsched_provider_up", "1: the provider answers", labels=["provider"])
    age = GaugeMetricFamily("dsched_price_age_seconds", "Age of the newest price", labels=["provider"])
    for name, told in api.control.health()["providers"].items():
        up.add_metric([name], float(bool(told.get("ok"))))
        if told.get("prices_age_s") is not None:
            age.add_metric([name], float(told["prices_age_s"]))
    yield up
    yield age


def _latencies(api: Api) -> Metric:
    family = HistogramMetricFamily(
        "dsched_api_seconds", "From a request's head to its answer's head", labels=["method", "path", "status"]
    )
    for (method, path, status), histogram in sorted(api.meter.latencies.items()):
        family.add_metric([method, path, status], buckets=histogram.buckets(), sum_value=histogram.total_s)
    return family
