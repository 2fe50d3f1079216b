"""What the order of a start holds besides the spec: who rank 0 is, which GPUs must answer, where checkpoints are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsched.scheduler.core.job import Checkpointing
from dsched.scheduler.core.snapshot import State
from dsched.scheduler.engine.orders import Scribe
from dsched.scheduler.wire.agent import Start
from tests.support.stage import Stage, TellStart, offer, spec

PLACES = {"aws": "s3://ckpt", "gcp": "gs://ckpt"}


def at(provider: str, stage: Stage) -> State:
    """The same job on the same machines of another cloud."""
    state = stage.state
    for name, node in state.nodes.items():
        state.nodes[name] = replace(node, pool=replace(node.pool, provider=provider))
    moved = [replace(sold, pool=replace(sold.pool, provider=provider)) for sold in state.offers.values()]
    state.offers = {sold.pool.id: sold for sold in moved}
    return state


def orders(stage: Stage, state: State, probed: tuple[str, ...] = ()) -> list[Start]:
    addresses = {name: f"10.0.0.{place}" for place, name in enumerate(state.nodes, 1)}
    scribe = Scribe(lambda: state, lambda name: addresses.get(name, ""), lambda job, on: f"{PLACES[on]}/{job}", probed)
    made = [scribe.order(effect, 1) for effect in stage.asked(TellStart)]
    return [order for order in made if order is not None and order["kind"] == "start"]


@pytest.fixture
def gang() -> Stage:
    """Two machines of eight GPUs, told to start."""
    stage = Stage(offer("use1-az1", 20.0))
    stage.submit(spec(gpus=16))
    stage.hello(*stage.launch())
    return stage


def test_all_of_a_gang_are_told_the_address_of_rank_0(gang: Stage) -> None:
    one, two = orders(gang, at("aws", gang))
    assert (one["ranks"], one["master_addr"], two["ranks"], two["master_addr"]) == ([0], "10.0.0.1", [1], "10.0.0.1")
    assert one["master_port"] == two["master_port"]


def test_a_gang_of_one_needs_no_network() -> None:
    stage = Stage(offer("use1-az1", 20.0))
    stage.submit()
    stage.hello(*stage.launch())
    [only] = orders(stage, at("aws", stage))
    assert only["master_addr"] == "127.0.0.1"


def test_gpus_must_answer_where_they_are_real(gang: Stage) -> None:
    state = at("aws", gang)
    assert [order.get("gpus") for order in orders(gang, state, probed=("aws",))] == [8, 8]
    assert [order.get("gpus") for order in orders(gang, state, probed=("gcp",))] == [None, None]


def test_nobody_looks_for_a_driver_of_nvidia_on_a_tpu(gang: Stage) -> None:
    state = at("gcp", gang)
    for name, sold in state.offers.items():
        assert sold.shape.accelerator is not None
        tpu = replace(sold.shape.accelerator, name="TPU-v6e")
        state.offers[name] = replace(sold, shape=replace(sold.shape, accelerator=tpu))
    assert [order.get("gpus") for order in orders(gang, state, probed=("gcp",))] == [None, None]


def test_a_job_saves_near_where_it_runs_and_is_told_where_its_checkpoint_lies(gang: Stage) -> None:
    state = at("gcp", gang)
    assert [(o["checkpoint"], o.get("carry")) for o in orders(gang, state)][:1] == [("gs://ckpt/j1", None)]
    state.jobs["j1"] = replace(state.jobs["j1"], checkpoint_at="aws/us-east-1")
    assert {(o["checkpoint"], o.get("carry")) for o in orders(gang, state)} == {("gs://ckpt/j1", "s3://ckpt/j1")}
    state.jobs["j1"] = replace(state.jobs["j1"], checkpoint_at="gcp/us-central1")
    assert {(o["checkpoint"], o.get("carry")) for o in orders(gang, state)} == {("gs://ckpt/j1", None)}


def test_a_place_that_the_spec_names_goes_with_the_job_and_nothing_is_carried() -> None:
    stage = Stage(offer("use1-az1", 20.0))
    stage.submit(spec(checkpoint=Checkpointing(uri="s3://mine/run")))
    stage.hello(*stage.launch())
    state = at("gcp", stage)
    state.jobs["j1"] = replace(state.jobs["j1"], checkpoint_at="aws/us-east-1")
    assert [(o["checkpoint"], o.get("carry")) for o in orders(stage, state)] == [("s3://mine/run", None)]
