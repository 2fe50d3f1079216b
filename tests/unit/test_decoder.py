"""The decoder: its sizes against the published ones, its routing, and that nothing looks into the future."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F

from dsched.jobs.train.experts import Experts, route
from dsched.jobs.train.model import Decoder, rotate
from dsched.jobs.train.shape import PRESETS, Precision, Shape
from dsched.scheduler.core.speed.presets import PRESETS as PUBLISHED

torch.set_num_threads(1)
TINY = PRESETS["tiny"]


def tokens(rows: int = 2, length: int = 18) -> torch.Tensor:
    return torch.randint(0, 256, (rows, length), generator=torch.Generator().manual_seed(1))


def decoder(shape: Shape = TINY, precision: Precision = Precision.FP32, *, recompute: bool = False) -> Decoder:
    return Decoder(shape, precision, seed=1, recompute=recompute)


@pytest.mark.parametrize("name", PRESETS)
def test_a_shape_counts_the_parameters_that_the_model_has(name: str) -> None:
    shape = PRESETS[name]
    with torch.device("meta"):
        model = Decoder(shape, Precision.BF16, seed=1)
    mtp = sum(p.numel() for n, p in model.named_parameters() if n.startswith("further."))
    assert mtp == shape.mtp_parameters
    assert sum(p.numel() for p in model.parameters()) == shape.parameters + mtp


@pytest.mark.parametrize(("name", "published"), [("deepseek-v3", "deepseek-v3"), ("16b", "deepseek-v2-lite")])
def test_trainer_and_planner_mean_the_same_model(name: str, published: str) -> None:
    ours, theirs = PRESETS[name], PUBLISHED[published]
    assert (ours.layers, ours.dim, ours.heads) == (theirs.layers, theirs.hidden, theirs.heads)
    assert (ours.experts, ours.top_k) == (theirs.experts, theirs.top_k)
    assert ours.parameters == pytest.approx(theirs.parameters, rel=0.01)
    assert ours.active == pytest.approx(theirs.active, rel=0.15)  # reports differ in whether embeddings count


def test_the_small_preset_is_four_million_parameters_of_eight_bytes() -> None:
    shape = PRESETS["4m"]
    assert shape.parameters + shape.mtp_parameters == pytest.approx(4e6, rel=0.05)
    assert shape.state_bytes == 8 * (shape.parameters + shape.mtp_parameters)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"rope": 15}, "rope=15 must be even"), ({"top_k": 5}, "top_k=5 experts of 4"), ({"groups": 3}, "experts=4"),
     ({"heads": 0}, "must be positive"), ({"dense_layers": 3}, "dense_layers=3 of layers=2")],
)  # fmt: skip
def test_a_shape_that_cannot_be_is_refused(change: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(TINY, **change)


def test_gates_sum_up_to_the_scale_and_the_bias_steers_the_choice_alone() -> None:
    shape = replace(TINY, route_scale=2.5)
    dice = torch.Generator().manual_seed(0)
    x, w = torch.randn(50, shape.dim, generator=dice), torch.randn(shape.experts, shape.dim, generator=dice)
    gates, experts = route(x, w, torch.zeros(shape.experts), shape)
    assert torch.allclose(gates.sum(1), torch.tensor(2.5))
    pushed = torch.tensor([0.0, 0.0, 0.0, 9.0])
    gates, experts = route(x, w, pushed, shape)
    assert (experts == 3).any(1).all(), "everybody takes the expert that is pushed"
    scores = torch.sigmoid(x @ w.T).gather(1, experts)
    assert torch.allclose(gates, 2.5 * scores / scores.sum(1, keepdim=True)), "and its gate is what it would be"


def test_a_token_stays_within_its_best_groups() -> None:
    shape = replace(TINY, experts=8, groups=4, groups_used=1)
    dice = torch.Generator().manual_seed(0)
    x, w = torch.randn(64, shape.dim, generator=dice), torch.randn(8, shape.dim, generator=dice)
    _, experts = route(x, w, torch.zeros(8), shape)
    groups = experts // 2
    assert (groups == groups[:, :1]).all()
    best = torch.sigmoid(x @ w.T).view(64, 4, 2).sum(2).argmax(1)
    assert torch.equal(groups[:, 0], best)


def test_no_token_is_dropped_however_unequal_the_experts_are() -> None:
    experts = Experts(TINY, Precision.FP32)
    for p in experts.parameters():
        torch.nn.init.normal_(p, std=0.1)
    experts.bias += torch.tensor([9.0, 9.0, 0.0, 0.0])
    x = torch.randn(33, TINY.dim)
    y, counts = experts(x)
    assert counts.tolist() == [33, 33, 0, 0]
    gates, chosen = route(x, experts.router, experts.bias, TINY)
    wanted = torch.zeros_like(x)
    for k in range(TINY.top_k):
        for row in range(33):
            e = int(chosen[row, k])
            gate, up = (experts.gate_up[e] @ x[row]).chunk(2)
            wanted[row] += gates[row, k] * (experts.down[e] @ (torch.nn.functional.silu(gate) * up))
    assert torch.allclose(y, wanted, atol=1e-5)


def test_balancing_makes_the_full_experts_less_wanted() -> None:
    experts = Experts(TINY, Precision.FP32)
    experts.rebalance(torch.tensor([10, 2, 6, 6]))
    assert experts.bias.tolist() == pytest.approx([-1e-3, 1e-3, 0.0, 0.0])


def test_what_comes_later_changes_nothing_before() -> None:
    model, seen = decoder(), tokens(rows=1)
    heads: list[torch.Tensor] = []
    model.head.register_forward_hook(lambda _module, _inputs, output: heads.append(output.detach()))
    model.loss(seen)
    other = seen.clone()
    other[0, 12:] = (other[0, 12:] + 1) % 256
    model.loss(other)
    next_token, after, next_other, after_other = heads
    near = {"atol": 1e-5}  # other tokens share the experts' products, whose bits depend on how many rows they have
    assert torch.allclose(next_token[:, :12], next_other[:, :12], **near)
    assert not torch.allclose(next_token[:, 12:], next_other[:, 12:], **near)
    assert torch.allclose(after[:, :11], after_other[:, :11], **near), "it is predicted from one token more"


def test_the_further_token_adds_its_share_of_the_loss() -> None:
    alone = decoder(replace(TINY, mtp=False)).loss(tokens())
    assert torch.equal(alone.loss.detach(), alone.next_token)
    outcome = decoder().loss(tokens())
    assert outcome.loss > outcome.next_token
    assert outcome.counts_LE.sum(1).tolist() == [2 * 16 * TINY.top_k] * (TINY.sparse_layers + 1)


def test_recomputing_gives_the_same_gradients_and_counts_no_token_twice() -> None:
    found = []
    for recompute in (False, True):
        model = decoder(recompute=recompute)
        outcome = model.loss(tokens())
        outcome.loss.backward()
        found.append((outcome.counts_LE, {name: p.grad for name, p in model.named_parameters()}))
    (counts, grads), (counts_again, grads_again) = found
    assert torch.equal(counts, counts_again)
    assert all(torch.equal(grads[name], grads_again[name]) for name in grads)  # type: ignore[arg-type]


def test_every_parameter_is_trained() -> None:
    model = decoder()
    model.loss(tokens(rows=4)).loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_each_position_predicts_the_next_token_and_the_one_after() -> None:
    model, seen = decoder(), tokens()
    logits: list[torch.Tensor] = []
    model.head.register_forward_hook(lambda _module, _inputs, output: logits.append(output.detach()))
    outcome = model.loss(seen)
    near, far = (
        F.cross_entropy(each.flatten(0, 1), seen[:, at : at + 16].flatten()) for at, each in enumerate(logits, 1)
    )
    assert torch.equal(outcome.next_token, near)
    assert torch.allclose(outcome.loss, near + TINY.mtp_weight * far)


def test_what_attention_sees_of_positions_is_their_distance() -> None:
    dice = torch.Generator().manual_seed(0)
    q, k = torch.randn(16, generator=dice), torch.randn(16, generator=dice)
    scores = rotate(q.expand(1, 1, 9, 16), 100.0)[0, 0] @ rotate(k.expand(1, 1, 9, 16), 100.0)[0, 0].T
    for distance in range(-8, 9):
        diagonal = scores.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-4)
    assert scores[0].std() > 0.1, "and it is seen"


@pytest.mark.parametrize(("precision", "share"), [(Precision.BF16, 0.02), (Precision.FP8, 0.25)])
def test_a_lower_precision_gives_about_the_same_gradients(precision: Precision, share: float) -> None:
    """Not the loss: before any training it is that of a guess, whatever the layers compute."""
    exact, lower = decoder(), decoder(precision=precision)
    for model in (exact, lower):
        model.loss(tokens(rows=8)).loss.backward()
    for block, other in zip(exact.sparse, lower.sparse, strict=True):
        for name in ("attention.out.weight", "attention.kv_up.weight", "shared.down.weight", "experts.gate_up"):
            wanted, got = (each.get_parameter(name).grad for each in (block, other))
            assert wanted is not None
            assert got is not None
            assert (got - wanted).norm() < share * wanted.norm(), name


def test_the_arithmetic_of_v3_is_six_flops_a_parameter_and_some_attention() -> None:
    shape = PRESETS["deepseek-v3"]
    assert 1.0 < shape.flops_per_token(4096) / (6 * shape.active) < 1.35
