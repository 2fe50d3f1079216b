"""The `model:` part of a spec: what users write, what the core gets, and what is refused where."""

from __future__ import annotations

import pytest

from dsched.scheduler.core.speed.model import Layout, Model, Precision
from dsched.scheduler.core.speed.presets import PRESETS
from dsched.scheduler.core.units import Instant, Moment
from dsched.scheduler.wire.document import SpecError
from dsched.scheduler.wire.spec import from_wire, json_schema, load, to_core

NOW = Moment(Instant(0), Instant(0))


def text(lines: str) -> str:
    return f"name: moe\nrun: train\ngpus: {{type: H100, count: 8..64}}\n{lines}\n"


def model(lines: str) -> Model:
    found = to_core(load(text(lines), "job.yaml"), NOW, "me").need.model
    assert found is not None
    return found


def fault(lines: str) -> str:
    with pytest.raises(SpecError) as caught:
        load(text(lines), "job.yaml")
    (only,) = caught.value.faults
    return f"{only.field}: {only.message}"


def test_the_name_of_a_published_model_is_enough() -> None:
    assert model("model: deepseek-v3") == PRESETS["deepseek-v3"]


def test_what_is_said_overrides_what_was_published() -> None:
    found = model("model: {name: deepseek-v3, precision: bf16, tokens: 1T, pp: 16, ep: 64}")
    assert (found.precision, found.tokens, found.layout) == (Precision.BF16, 1e12, Layout(pp=16, ep=64))
    assert found.parameters == 671e9


def test_another_name_is_a_key_and_nothing_else() -> None:
    assert model("model: our-net") == Model(name="our-net")
    assert model("model: {parameters: 7B}").name == "moe"


def test_a_batch_is_told_in_tokens_or_in_sequences_and_steps_make_the_work() -> None:
    assert model("model: {parameters: 7B, batch: 4M}").batch == 4_000_000
    found = model("model: {parameters: 7B, batch: 1024 sequences, sequence: 8192}\nsteps: 1000")
    assert (found.batch, found.tokens) == (1024 * 8192, 1024 * 8192 * 1000)


def test_a_job_that_may_use_fp8_need_not_say_it_again() -> None:
    spec = load("name: a\nrun: b\ngpus: {type: H100, count: 8, fp8: true}\nmodel: {parameters: 7B}", "job.yaml")
    found = to_core(spec, NOW, "me").need.model
    assert found is not None
    assert found.precision is Precision.FP8


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("model: {parameters: 7B, active: 9B}", "model.active: more parameters are active"),
        ("model: {parameters: 7B, active: 2B}", "model.active: fewer parameters are active"),
        ("model: {parameters: 7B, active: 2B, experts: 8, top_k: 9}", "model.top_k: only 8 experts"),
        ("model: {name: llama-3-8b, tp: 5}", "model.tp: 32 heads cannot be divided by 5"),
        ("model: {name: deepseek-v3, ep: 3}", "model.ep: 256 experts cannot be divided by 3"),
        ("model: {name: llama-3-8b, pp: 33}", "model.pp: more stages than the 32 layers"),
        ("model: {parameters: much}", "model.parameters: not a number: 'much'"),
        ("model: {parameters: 0}", "model.parameters: '0' is not between"),
        ("model: {parameter: 7B}", "model.parameter: unknown field; did you mean parameters?"),
        ("model: {precision: fp4}", "model.precision: unknown word 'fp4'"),
        ("spot_share: 1.5", "spot_share: must be less than or equal to 1"),
        ("spot_share: .nan", "spot_share: "),
    ],
)
def test_what_cannot_be_is_refused_at_its_field(lines: str, said: str) -> None:
    assert fault(lines).startswith(said)


def test_a_model_needs_gpus() -> None:
    with pytest.raises(SpecError, match="trained on GPUs"):
        load("name: a\nrun: b\nmodel: llama-3-8b", "job.yaml")


def test_the_json_form_comes_back_the_same() -> None:
    spec = load(text("model: {name: our-net, parameters: 7B, batch: 4M}\nspot_share: 0.5"), "job.yaml")
    assert from_wire(spec.to_wire()) == spec
    assert to_core(spec, NOW, "me").need.spot_share == 0.5


def test_editors_know_the_short_form_and_the_fields() -> None:
    schema = json_schema()
    assert {"type": "string"} in schema["properties"]["model"]["anyOf"]
    assert "parameters" in schema["$defs"]["ModelSpec"]["properties"]
