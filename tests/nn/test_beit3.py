"""BEiT-3: hand-computed values, published sizes, the tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anymask.errors import CheckpointError
from anymask.nn.beit3 import (
    Beit3Config,
    Beit3Model,
    beit3_part,
    config_of_beit3,
    resized_positions,
)
from anymask.nn.beit3_tokens import Beit3Tokenizer

TINY = {
    "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
    "vocab_size": 12, "image_size": 4, "patch_size": 2, "max_position_embeddings": 1024,
}  # fmt: skip


def filled(shape: torch.Size, key: str) -> torch.Tensor:
    """The specification's rule for oracle T18."""
    shift = sum(map(ord, key)) % 97
    count = int(torch.tensor(shape).prod())
    values = 0.2 * torch.sin(0.37 * torch.arange(count, dtype=torch.float64) + shift)
    if ("norm" in key or "inner_attn_ln" in key) and key.endswith("weight"):
        values = values + 1
    return values.reshape(shape).float()


@pytest.fixture(scope="module")
def tiny() -> Beit3Model:
    model = Beit3Model(Beit3Config(**TINY)).eval()
    model.load_state_dict({k: filled(v.shape, k) for k, v in model.state_dict().items()})
    return model


PIXELS = torch.sin(0.1 * torch.arange(48.0)).reshape(1, 3, 4, 4)
CLS = (-1.21961, -0.55480, -0.89182, 0.00307, -0.31222, 0.78403, 0.43313, 1.50845)


@torch.no_grad()
def test_hand_computed_values(tiny: Beit3Model) -> None:
    assert sum(p.numel() for p in tiny.parameters()) == 11_088
    found = tiny(PIXELS, torch.tensor([[0, 5, 2]]))
    word = (-1.34047, -0.99271, -0.97788, -0.11731, -0.15529, 1.06766, 0.70373, 1.83158)
    torch.testing.assert_close(found.pooler_output[0], torch.tensor(CLS), atol=2e-5, rtol=0)
    torch.testing.assert_close(found.last_hidden_state[0, 5], torch.tensor(word), atol=2e-5, rtol=0)
    other = (-1.21941, -0.55577, -0.89074, 0.00534, -0.31292, 0.78691, 0.42723, 1.50895)
    found = tiny(PIXELS, torch.tensor([[0, 7, 2]]))
    torch.testing.assert_close(found.pooler_output[0], torch.tensor(other), atol=2e-5, rtol=0)
    alone = (-1.31178, -1.00653, -0.97166, -0.11021, -0.18583, 1.09492, 0.62763, 1.87558)
    found = tiny(None, torch.tensor([[0, 5, 2]]))
    torch.testing.assert_close(found.pooler_output[0], torch.tensor(alone), atol=2e-5, rtol=0)


@torch.no_grad()
def test_padding_changes_nothing(tiny: Beit3Model) -> None:
    ids = torch.tensor([[0, 5, 2, 1, 1]])
    found = tiny(PIXELS, ids, ids != 1)
    torch.testing.assert_close(found.pooler_output[0], torch.tensor(CLS), atol=2e-5, rtol=0)
    ignored = tiny(PIXELS, ids)
    assert (ignored.pooler_output[0] - torch.tensor(CLS)).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("config", "parameters", "tensors", "text", "picture"),
    [
        (Beit3Config(), 672_702_464, 971, 369_152_000, 303_550_464),
        (Beit3Config.base(), 220_987_392, 491, 135_094_272, 85_893_120),
    ],
)
def test_published_sizes(
    config: Beit3Config, parameters: int, tensors: int, text: int, picture: int
) -> None:
    with torch.device("meta"):
        model = Beit3Model(config)
    state = model.state_dict()
    assert len(state) == tensors
    assert sum(p.numel() for p in state.values()) == parameters
    words = {k: v for k, v in state.items() if ".B." in k or k.startswith("text_embed")}
    assert sum(v.numel() for v in words.values()) == text
    assert parameters - text == picture
    published = {f"beit3.{k}": v for k, v in state.items()}
    for lead in ("", "mm_extractor.", "evf_sam2.mm_extractor."):
        part = beit3_part({lead + k: v for k, v in published.items()} | {"mlm_head.weight": None})
        assert config_of_beit3(part).to_dict() == config.to_dict()
    assert beit3_part({"other": torch.zeros(1)}) == {}


def test_save_and_load(tmp_path: Path, tiny: Beit3Model) -> None:
    tiny.save_pretrained(tmp_path)
    again = Beit3Model.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        found = again(PIXELS, torch.tensor([[0, 5, 2]])).pooler_output[0]
    torch.testing.assert_close(found, torch.tensor(CLS), atol=2e-5, rtol=0)


def test_another_picture_size(tiny: Beit3Model) -> None:
    state = resized_positions(tiny.state_dict(), 8)
    larger = Beit3Model(config_of_beit3(state, num_heads=2))
    assert larger.config.image_size == 8
    larger.load_state_dict(state)
    assert larger(torch.randn(1, 3, 8, 8)).last_hidden_state.shape == (1, 17, 8)
    kept = state["encoder.embed_positions.A.weight"][:3]
    assert torch.equal(kept, tiny.state_dict()["encoder.embed_positions.A.weight"][:3])


def test_asking_wrongly(tiny: Beit3Model) -> None:
    with pytest.raises(ValueError, match="give pixel_values"):
        tiny()
    with pytest.raises(ValueError, match="1022 are possible"):
        tiny(None, torch.zeros(1, 1023, dtype=torch.int64))


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("pieces")
    lines = folder / "lines.txt"
    lines.write_text("\n".join(["the red cup", "a blue ball", "zebra", "man in a shirt"] * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(lines),
        model_prefix=str(folder / "beit3"),
        vocab_size=40,
        minloglevel=2,
        hard_vocab_limit=False,
    )
    (folder / "beit3.model").rename(folder / "beit3.spm")
    return folder


def test_the_tokenizer_numbers_pieces_as_xlm_r(pieces: Path) -> None:
    import sentencepiece

    plain = sentencepiece.SentencePieceProcessor(model_file=str(pieces / "beit3.spm"))
    reader = Beit3Tokenizer(pieces)
    ids, keep = reader(["the red cup", "zebra"], 20)
    wanted = [0, *(k + 1 for k in plain.encode("the red cup")), 2]
    assert ids[0, : len(wanted)].tolist() == wanted
    assert keep.sum(1).tolist() == [len(wanted), 2 + len(plain.encode("zebra"))]
    assert (ids[~keep] == 1).all()
    assert 3 in reader.ids("漢", 20)  # SentencePiece's 0, its own unknown
    assert reader.mask_id == plain.get_piece_size() + 1
    short = reader.ids("the red cup", 3)
    assert len(short) == 3
    assert short[-1] == 2


def test_a_missing_tokenizer_says_what_to_do(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    with pytest.raises(CheckpointError, match=r"beit3\.spm"):
        Beit3Tokenizer(tmp_path)
    (tmp_path / "beit3.spm").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="no SentencePiece"):
        Beit3Tokenizer(tmp_path)
