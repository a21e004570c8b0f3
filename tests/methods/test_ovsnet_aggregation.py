"""Gradient-Free Aggregation and Proxy Calibration: the specification's oracles, and properties."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from anymask.methods.ovsnet.aggregation import GradientFreeAggregation, LearnedFusion
from anymask.methods.ovsnet.calibration import draw, proxies, proxy_loss, words_of
from anymask.methods.ovsnet.classification import (
    Words,
    best_of_synonyms,
    class_logits,
    ensemble,
)
from anymask.methods.ovsnet.text import average_templates
from anymask.nn.mask_pooling import mask_pool


class Given(GradientFreeAggregation):
    """The walk on a given affinity, as the oracles state it."""

    def affinity(self, x: Tensor, y: Tensor, empty: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = ORACLE[None].to(x)
        return z, z / z.sum(-2, keepdim=True)


ORACLE = torch.eye(2)


def rows(values: list[list[float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[None]


@pytest.mark.parametrize(
    ("z", "y", "omega", "clip", "query"),
    [
        ([[0.75, 0.25], [0.25, 0.75]], [[0, 1], [1, 0]], 0.5,
         [[0.70, 0.30], [0.30, 0.70]], [[0.30, 0.70], [0.70, 0.30]]),
        ([[0.75, 0.25], [0.25, 0.75]], [[0, 1], [1, 0]], 0.2,
         [[0.863636, 0.136364], [0.136364, 0.863636]],
         [[0.136364, 0.863636], [0.863636, 0.136364]]),
        ([[0.8, 0.2], [0.4, 0.6]], [[1, 0], [0, 1]], 0.5,
         [[0.846377, 0.153623], [0.220290, 0.779710]],
         [[0.818841, 0.181159], [0.188406, 0.811594]]),
    ],
    ids=["O1", "O1 at 0.2", "O2"],
)  # fmt: skip
def test_oracles_with_a_given_affinity(
    z: list[list[float]],
    y: list[list[float]],
    omega: float,
    clip: list[list[float]],
    query: list[list[float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(globals(), "ORACLE", torch.tensor(z, dtype=torch.float64))
    found = Given(omega=omega)(rows([[1, 0], [0, 1]]), rows(y))
    assert torch.allclose(found.clip, rows(clip), atol=1e-6)
    assert torch.allclose(found.query, rows(query), atol=1e-6)
    if omega == 0.5 and z[0][0] == 0.75:  # the first steps of the iteration
        one = Given(omega=omega, steps=1)(rows([[1, 0], [0, 1]]), rows(y))
        assert torch.allclose(one.query, rows([[0.375, 0.625], [0.625, 0.375]]))
        assert torch.allclose(one.clip, rows([[0.71875, 0.28125], [0.28125, 0.71875]]))


CLIP = [[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]]
QUERY = [[1.0, 0.0], [0.0, 3.0], [1.0, 1.0]]


def test_oracle_o3_end_to_end() -> None:
    walk = GradientFreeAggregation()
    found = walk(rows(CLIP), rows(QUERY))
    clip = [[0.563325, 0.748603], [0.105305, 0.947255], [0.942317, 0.101728]]
    query = [[0.949187, 0.086615], [0.109125, 0.947903], [0.628034, 0.687119]]
    assert torch.allclose(found.clip, rows(clip), atol=1e-6)
    assert torch.allclose(found.query, rows(query), atol=1e-6)
    scaled = walk(rows(CLIP) * torch.tensor([[2.0], [0.1], [7.0]]), rows(QUERY))
    assert torch.allclose(scaled.clip, found.clip)


def random(seed: int, n: int = 6, d: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, n, d, generator=generator, dtype=torch.float64) for _ in "cq")  # type: ignore[return-value]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.floats(0.05, 0.9), st.floats(0.05, 1.0))
def test_the_walk_always_converges_to_its_closed_form(seed: int, omega: float, lam: float) -> None:
    clip, query = random(seed)
    solved = GradientFreeAggregation(omega=omega, lam=lam)(clip, query)
    # omega^(2t) of the start is left after t steps.
    steps = int(40 / -torch.log(torch.tensor(omega))) + 2
    walked = GradientFreeAggregation(omega=omega, lam=lam, steps=steps)(clip, query)
    assert torch.allclose(solved.clip, walked.clip, atol=1e-9)
    assert torch.allclose(solved.query, walked.query, atol=1e-9)
    assert not solved.guarded.any()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.floats(0.0, 0.9))
def test_invariants(seed: int, omega: float) -> None:
    clip, query = random(seed)
    walk = GradientFreeAggregation(omega=omega)
    found = walk(clip, query)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    moved = walk(clip[:, order], query[:, order])
    assert torch.allclose(moved.clip, found.clip[:, order])
    same = torch.ones_like(clip)
    unit = torch.nn.functional.normalize(same, dim=-1)
    assert torch.allclose(walk(same, same).clip, unit)
    # Rows are mixtures: 1/(1+omega) of CLIP's, the rest of the queries'.
    z, norm = walk.affinity(*(torch.nn.functional.normalize(t, dim=-1) for t in (clip, query)))
    eye = torch.eye(6, dtype=z.dtype)
    on_clip = (1 - omega) * torch.linalg.inv(eye - omega**2 * z @ norm.mT)
    assert torch.allclose(on_clip.sum(-1), torch.tensor(1 / (1 + omega), dtype=z.dtype))
    assert (on_clip >= -1e-12).all()
    assert torch.linalg.eigvals(omega**2 * z @ norm.mT).abs().max() <= omega**2 + 1e-9


def test_omega_zero_changes_nothing() -> None:
    clip, query = random(1)
    found = GradientFreeAggregation(omega=0.0)(clip, query)
    assert torch.allclose(found.clip, torch.nn.functional.normalize(clip, dim=-1))
    assert torch.allclose(found.query, torch.nn.functional.normalize(query, dim=-1))


def test_oracle_o5_the_literal_walk_is_guarded() -> None:
    one = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    calm = GradientFreeAggregation(mode="diagonal", lam=0.2, guard="raise")(one, one)
    assert torch.allclose(calm.clip, 0.578947 * one, atol=1e-6)
    wild = {"mode": "diagonal", "lam": 5.0}
    with pytest.raises(FloatingPointError, match="diverges"):
        GradientFreeAggregation(**wild, guard="raise")(one, one)  # type: ignore[arg-type]
    for guard in ("rescale", "shrink_omega", "identity"):
        found = GradientFreeAggregation(**wild, guard=guard)(one, one)  # type: ignore[arg-type]
        assert found.guarded.all()
        assert found.clip[0, 0, 0] > 0  # the unguarded solve would give -7


def test_the_printed_walk_would_diverge_with_many_queries() -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(1, 1, 64, generator=generator)
    clip, query = (base + torch.randn(1, 100, 64, generator=generator) for _ in range(2))
    found = GradientFreeAggregation(mode="linear")(clip, query)
    assert found.bound[0] > 1
    assert found.guarded.all()
    cosine = torch.nn.functional.cosine_similarity(found.clip, clip, dim=-1)
    assert cosine.min() > 0  # without the guard it flips


def test_empty_queries_see_only_their_partner() -> None:
    clip, query = random(3)
    empty = torch.tensor([[True, False, False, True, False, False]] * 2)
    walk = GradientFreeAggregation(exclude_empty=True)
    z, _ = walk.affinity(clip, query, empty)
    assert torch.allclose(z[0, 0], torch.eye(6, dtype=z.dtype)[0])
    assert torch.allclose(z.sum(-1), torch.ones(2, 6, dtype=z.dtype))
    assert z[0, 1, 0] == 0


def test_gradients_flow_to_both_sides_but_not_through_the_affinity() -> None:
    clip, query = (t.requires_grad_() for t in random(4))
    GradientFreeAggregation()(clip, query).clip.sum().backward()
    assert query.grad is not None
    assert query.grad.abs().sum() > 0
    z, _ = GradientFreeAggregation().affinity(clip, query)
    assert z.requires_grad  # detached only inside of the walk


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_learned_fusion_starts_by_changing_nothing(kind: str) -> None:
    clip, query = (t.float()[..., :4] for t in random(5, d=8))
    fused = LearnedFusion(4, kind, num_heads=2)(clip, query)  # type: ignore[arg-type]
    assert torch.allclose(fused.clip, torch.nn.functional.normalize(clip, dim=-1))


@pytest.mark.parametrize("bad", [{"omega": 1.0}, {"lam": 0.0}, {"mode": "x"}, {"guard": "x"}])
def test_impossible_settings(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"omega|lambda|modes"):
        GradientFreeAggregation(**bad)  # type: ignore[arg-type]


# ------------------------------------------------------------------------- proxies and classes


@pytest.mark.parametrize(
    ("alpha", "loss"), [(0.5, 0.051317), (0.25, 0.142507), (1.0, 0.0)], ids=str
)
def test_oracle_o7_proxy_loss(alpha: float, loss: float) -> None:
    q = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    t = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    partner, a = torch.tensor([1, 0]), torch.tensor([alpha, alpha])
    # The first proxy alone: the oracle states one pair.
    found = proxy_loss(proxies(q, partner, a)[:1], proxies(t, partner, a)[:1])
    assert float(found) == pytest.approx(loss, abs=1e-6)
    assert float(proxy_loss(q, -q)) == pytest.approx(2.0)


def test_beta_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    for gamma, variance in ((2.0, 0.05), (1.0, 1 / 12), (0.5, 1 / 8)):
        partner, alpha = draw(20_000, gamma, generator, "cpu")
        assert sorted(partner.tolist()) == list(range(20_000))
        assert float(alpha.mean()) == pytest.approx(0.5, abs=0.01)
        assert float(alpha.var()) == pytest.approx(variance, rel=0.05)


def test_the_nearest_synonym_is_the_word() -> None:
    words = torch.eye(3)
    found = words_of(torch.tensor([[0.1, 0.9, 2.0]]), words, (2, 1), torch.tensor([0]))
    assert found.tolist() == [[0.0, 1.0, 0.0]]


def test_oracle_o6_mask_pooling() -> None:
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[10.0, 0.0], [0.0, 2.0]]]])
    logits = torch.tensor([[[[2.0, -1.0], [0.0, 0.5]], [[-1.0, -1.0], [-1.0, -1.0]]]])
    assert mask_pool(features, logits)[0].tolist() == [[2.5, 6.0], [0.0, 0.0]]


def test_oracle_o8_text_ensemble() -> None:
    found = average_templates(torch.tensor([[3.0, 0.0], [0.0, 2.0]]), 2)
    assert torch.allclose(found, torch.tensor([[0.707107, 0.707107]]), atol=1e-6)
    logits = best_of_synonyms(torch.tensor([[20.0, 26.0, -1.0]]), (2,))
    assert logits.tolist() == [[26.0, -1.0]]


def test_oracle_o9_ensemble() -> None:
    query = torch.tensor([[[0.6, 0.3, 0.1, 0.0]]]).log()
    query[..., -1] = torch.tensor(1 / 3).log()  # void: a quarter of everything
    clip = torch.tensor([[[0.2, 0.5, 0.3, 0.0]]]).log()
    clip[..., -1] = 5.0  # means nothing
    seen = torch.tensor([True, False, False])
    found = ensemble(query, clip, seen, 0.4, 0.8)
    expected = torch.tensor([[[0.268771, 0.313820, 0.167408, 0.25]]])
    assert torch.allclose(found, expected, atol=1e-5)
    alone = ensemble(query, clip, seen, only_query=torch.tensor([[True]]))
    assert torch.allclose(alone[..., :3], 0.75 * torch.tensor([0.6, 0.3, 0.1]), atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_synonyms_never_lower_a_class(seed: int, counts: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    unit = torch.nn.functional.normalize(torch.randn(sum(counts), 6, generator=generator), dim=-1)
    embeds, void = torch.randn(1, 3, 6, generator=generator), torch.randn(6, generator=generator)
    words = Words(unit, tuple(counts), torch.zeros(len(counts), dtype=torch.bool))
    merged = class_logits(embeds, words, 10.0, void)
    apart = class_logits(embeds, Words(unit, (1,) * sum(counts), words.seen), 10.0, void)
    parts = apart[..., :-1].split(counts, -1)
    assert torch.equal(merged[..., :-1], torch.stack([p.amax(-1) for p in parts], -1))
    assert torch.equal(merged[..., -1], apart[..., -1])
