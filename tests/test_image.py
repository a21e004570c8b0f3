"""Pictures of every kind come in as upright RGB bytes; hostile ones as clear errors."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import skimage.data
import torch

from anymask.errors import ImageError, MissingExtraError
from anymask.image import MAX_PIXELS, Image, read_image

RNG = np.random.default_rng(0)
PHOTO = skimage.data.astronaut()[:48, :64]


def save(path: Path, picture: PIL.Image.Image, **options: Any) -> Path:
    picture.save(path, **options)
    return path


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises a size and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    ihdr = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


# ------------------------------------------------------------------------------ what comes in


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp"])
def test_lossless_files_come_in_unchanged(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"p.{suffix}", PIL.Image.fromarray(PHOTO), lossless=True)
    image = read_image(path)
    assert np.array_equal(image.pixels, PHOTO)
    assert image.path == path
    assert image.size == (image.height, image.width) == (48, 64)


def test_jpeg_and_string_paths(tmp_path: Path) -> None:
    path = save(tmp_path / "p.jpg", PIL.Image.fromarray(PHOTO), quality=95)
    image = read_image(str(path))
    assert np.abs(image.pixels.astype(int) - PHOTO).mean() < 4
    assert image.pixels.dtype == np.uint8


def test_streams(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    PIL.Image.fromarray(PHOTO).save(buffer, format="PNG")
    buffer.seek(0)
    assert np.array_equal(read_image(buffer).pixels, PHOTO)


def test_an_image_is_returned_as_it_is() -> None:
    image = Image(PHOTO)
    assert read_image(image) is image
    with pytest.raises(ImageError, match="max_pixels"):
        read_image(image, max_pixels=10)


def test_to_pil_and_repr() -> None:
    assert np.array_equal(np.asarray(Image(PHOTO).to_pil()), PHOTO)
    assert repr(Image(PHOTO, Path("a.png"))) == "Image(48x64 RGB, path='a.png')"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    # Blocks of one colour survive JPEG.
    blocks = np.kron(RNG.integers(0, 2, (3, 5, 1)) * np.array([255, 255, 255]), np.ones((8, 8, 1)))
    options = {"lossless": True} if suffix == "webp" else {}
    picture = PIL.Image.fromarray(blocks.astype(np.uint8))
    path = save(tmp_path / f"p.{suffix}", picture, exif=exif, **options)
    with PIL.Image.open(path) as opened:
        expected = np.asarray(PIL.ImageOps.exif_transpose(opened).convert("RGB"))
    assert np.array_equal(read_image(path).pixels, expected)
    with PIL.Image.open(path) as opened:
        assert np.array_equal(read_image(opened).pixels, expected)


def test_tall_pictures_are_converted_in_strips(tmp_path: Path) -> None:
    rgba = RNG.integers(0, 256, (1100, 3, 4), np.uint8)
    path = save(tmp_path / "p.png", PIL.Image.fromarray(rgba))
    weight = rgba[..., 3:] / 255
    expected = np.rint(rgba[..., :3] * weight + 255 * (1 - weight))
    assert np.abs(read_image(path).pixels - expected).max() <= 0.51
    assert np.array_equal(read_image(rgba).pixels, read_image(path).pixels)


def test_grey_bilevel_palette_and_cmyk(tmp_path: Path) -> None:
    grey = PIL.Image.fromarray(PHOTO).convert("L")
    expected = np.repeat(np.asarray(grey)[..., None], 3, axis=2)
    assert np.array_equal(read_image(save(tmp_path / "g.png", grey)).pixels, expected)
    bilevel = read_image(save(tmp_path / "b.png", grey.convert("1"))).pixels
    assert set(np.unique(bilevel)) == {0, 255}
    palette = PIL.Image.fromarray(PHOTO).quantize(16)
    assert np.array_equal(
        read_image(save(tmp_path / "p.png", palette)).pixels, np.asarray(palette.convert("RGB"))
    )
    cmyk = PIL.Image.fromarray(PHOTO).convert("CMYK")
    assert np.array_equal(read_image(save(tmp_path / "c.tiff", cmyk)).pixels, PHOTO)


def test_transparent_palette_and_grey_alpha_lie_on_white(tmp_path: Path) -> None:
    picture = PIL.Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putdata([0, 1])
    path = save(tmp_path / "p.png", picture, transparency=0)
    assert read_image(path).pixels.tolist() == [[[255, 255, 255], [0, 0, 255]]]
    grey_alpha = PIL.Image.fromarray(np.array([[[0, 0], [0, 255], [0, 51]]], np.uint8), "LA")
    path = save(tmp_path / "la.png", grey_alpha)
    assert read_image(path).pixels[0, :, 0].tolist() == [255, 0, 204]
    keyed = save(
        tmp_path / "t.png", PIL.Image.new("RGB", (1, 1), (1, 2, 3)), transparency=(1, 2, 3)
    )
    assert read_image(keyed).pixels.tolist() == [[[255, 255, 255]]]


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    expected = np.rint(values / 257).astype(int)
    for suffix in ("png", "tiff", "pgm"):
        path = save(tmp_path / f"p.{suffix}", PIL.Image.fromarray(values))
        assert np.array_equal(read_image(path).pixels[..., 1], expected), suffix
    assert np.array_equal(read_image(values).pixels[..., 2], expected)


def test_float_tiff(tmp_path: Path) -> None:
    path = save(tmp_path / "f.tiff", PIL.Image.fromarray(np.array([[0, 0.5, 1]], np.float32)))
    assert read_image(path).pixels[0, :, 0].tolist() == [0, 128, 255]
    path = save(tmp_path / "g.tiff", PIL.Image.fromarray(np.array([[0, 99]], np.float32)))
    with pytest.raises(ImageError, match=r"0\.\.99"):
        read_image(path)


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [PIL.Image.new("RGB", (4, 3), color) for color in ("red", "green", "blue")]
    for suffix in ("gif", "webp", "png"):
        path = save(tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:])
        red = read_image(path).pixels[0, 0]
        assert red[0] > 250, suffix
        assert red[1] < 5, suffix


def test_heic(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    picture = heif.from_pillow(PIL.Image.fromarray(np.full((64, 64, 3), 200, np.uint8)))
    try:
        picture.save(tmp_path / "p.heic", quality=90)
    except RuntimeError as error:
        pytest.skip(f"this pillow_heif cannot write HEIC: {error}")
    image = read_image(tmp_path / "p.heic")
    assert image.size == (64, 64)
    assert np.abs(image.pixels.astype(int) - 200).max() < 6


def test_heic_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(PIL.Image.OPEN, "HEIF", raising=False)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(64))
    with pytest.raises(MissingExtraError, match=r"pip install 'anymask\[heic\]'"):
        read_image(path)


# ---------------------------------------------------------------------------- arrays, tensors


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3)])
@pytest.mark.parametrize(
    ("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1.0), (np.float64, 1.0)]
)
def test_arrays(shape: tuple[int, ...], dtype: Any, top: float) -> None:
    unit = RNG.random(shape)
    array = (unit * top).astype(dtype)
    expected = np.rint(array.astype(float) / top * 255)
    if len(shape) == 2 or shape[2] == 1:
        expected = np.repeat(expected.reshape(5, 7, 1), 3, axis=2)
    result = read_image(array).pixels
    assert result.dtype == np.uint8
    assert np.abs(result - expected).max() <= 1
    assert result.flags.writeable


def test_bool_and_wide_integers() -> None:
    mask = np.array([[True, False]])
    assert read_image(mask).pixels[0, :, 0].tolist() == [255, 0]
    assert read_image(np.array([[0, 255]], np.int64)).pixels[0, :, 0].tolist() == [0, 255]


def test_uint8_rgb_is_shared_not_copied() -> None:
    assert np.shares_memory(read_image(PHOTO).pixels, PHOTO)


@pytest.mark.parametrize(
    "make",
    [
        lambda a: torch.from_numpy(a),
        lambda a: torch.from_numpy(a).permute(2, 0, 1),
        lambda a: torch.from_numpy(a).permute(2, 0, 1).float() / 255,
        lambda a: (torch.from_numpy(a).permute(2, 0, 1).double() / 255).requires_grad_(),
    ],
)
def test_tensors(make: Any) -> None:
    assert np.array_equal(read_image(make(PHOTO.copy())).pixels, PHOTO)


def test_tensors_of_other_kinds() -> None:
    grey = torch.rand(1, 4, 5)
    assert read_image(grey).size == (4, 5)
    assert read_image(torch.rand(4, 5)).size == (4, 5)
    assert read_image(torch.rand(4, 6, 5)).size == (6, 5)  # channels first, with alpha
    assert read_image(torch.rand(3, 8, 9, dtype=torch.bfloat16)).size == (8, 9)
    assert read_image(torch.zeros(3, 5, 3)).size == (5, 3)  # channels first where both fit
    with pytest.raises(ImageError, match="one by one"):
        read_image(torch.zeros(2, 3, 8, 9))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((4, 4, 3), np.nan), "NaN"),
        (np.full((4, 4), np.inf), "infinite"),
        (np.full((4, 4, 3), 200.0), "divide by 255"),
        (np.full((4, 4, 3), -0.5), "0..1"),
        (np.full((4, 4, 3), 300), "uint8"),
        (np.full((4, 4, 3), -1), "uint8"),
        (np.zeros((3, 40, 40)), "transpose"),
        (np.zeros((2, 4, 4, 3)), "one by one"),
        (np.zeros((4, 4, 2)), "not a picture"),
        (np.zeros(4), "not a picture"),
        (np.zeros((0, 4, 3)), "no pixels"),
        (np.zeros((4, 4), complex), "dtype"),
        (np.array([["a"]]), "dtype"),
        (np.array([[None]]), "dtype"),
    ],
)
def test_wrong_arrays(array: np.ndarray[Any, Any], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_image(array)


@pytest.mark.parametrize("source", [None, 3, [1, 2], {"a": 1}, b"bytes"])
def test_wrong_sources(source: Any) -> None:
    with pytest.raises(ImageError, match="cannot read a picture from"):
        read_image(source)


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), "a"]
)
def test_image_itself_is_strict(pixels: Any) -> None:
    with pytest.raises(ImageError, match="read_image"):
        Image(pixels)


# ------------------------------------------------------------------------------ hostile files


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        read_image(tmp_path / "nothing.jpg")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="download"):
        read_image("https://example.org/a.jpg")
    with pytest.raises(ImageError, match="cannot be opened"):
        read_image("a\0b.jpg")
    with pytest.raises(ImageError, match="cannot be opened"):
        read_image("a" * 5000)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs file permissions")
def test_unreadable_file(tmp_path: Path) -> None:
    path = save(tmp_path / "p.png", PIL.Image.fromarray(PHOTO))
    path.chmod(0)
    with pytest.raises(ImageError, match="permission"):
        read_image(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"Dear reader, this is no photograph.\n", "text file"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"%PDF-1.7\n%\xe2\xe3", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\x00\x01\x02\x03" * 100, "not a picture"),
        (b"\xff\xd8\xff\xe0", "damaged|not a picture|truncated"),
        (b"\x89PNG\r\n\x1a\n", "damaged|not a picture|truncated"),
        (b"GIF89a", "damaged|not a picture|truncated"),
    ],
)
def test_files_that_are_no_pictures(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path)
    assert "photo.jpg" in str(caught.value)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tiff", "webp"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
def test_truncated_files(tmp_path: Path, suffix: str, share: float) -> None:
    path = save(tmp_path / f"p.{suffix}", PIL.Image.fromarray(skimage.data.chelsea()))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ImageError, match=r"again|convert"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tiff", "webp"])
def test_damaged_bytes_give_a_picture_or_an_image_error(tmp_path: Path, suffix: str) -> None:
    data = save(tmp_path / f"p.{suffix}", PIL.Image.fromarray(PHOTO)).read_bytes()
    rng = np.random.default_rng(1)
    path = tmp_path / f"q.{suffix}"
    for _ in range(40):
        broken = bytearray(data)
        for place in rng.integers(0, min(len(broken), 400), 4):
            broken[place] = rng.integers(256)
        path.write_bytes(broken)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(ImageError):
                assert read_image(path, max_pixels=10**7).pixels.shape[2] == 3


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (2**31 - 1, 2), (250_001, 1000)])
def test_bombs_are_refused_by_their_header(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(width, height))
    with warnings.catch_warnings():
        warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
        with pytest.raises(ImageError, match=r"max_pixels|damaged|not a picture"):
            read_image(path)


def test_a_large_header_within_the_limit_is_only_truncated(tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(png_header(1000, 1000))
    with pytest.raises(ImageError, match="again"):
        read_image(path)


def test_the_limit_is_a_parameter(tmp_path: Path) -> None:
    path = save(tmp_path / "p.png", PIL.Image.fromarray(PHOTO))
    assert read_image(path, max_pixels=48 * 64).size == (48, 64)
    with pytest.raises(ImageError, match="max_pixels"):
        read_image(path, max_pixels=48 * 64 - 1)
    with pytest.raises(ImageError, match="max_pixels"):
        read_image(PHOTO, max_pixels=10)
    with pytest.raises(ImageError, match="max_pixels"):
        read_image(PIL.Image.fromarray(PHOTO), max_pixels=10)


def test_108_megapixels_are_read_without_a_warning(tmp_path: Path) -> None:
    limit = PIL.Image.MAX_IMAGE_PIXELS
    assert limit is not None
    path = save(tmp_path / "p.png", PIL.Image.new("1", (12_000, 9_000), 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path).size == (9_000, 12_000)
    # Beyond Pillow's own limit, but not ours.
    assert limit < 20_000 * 10_000 < MAX_PIXELS
    wide = tmp_path / "q.png"
    wide.write_bytes(png_header(20_000, 10_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match="again"):
            read_image(wide)
    assert limit == PIL.Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 20_000)])
def test_extreme_shapes(tmp_path: Path, size: tuple[int, int]) -> None:
    path = save(tmp_path / "p.png", PIL.Image.new("RGB", size, (1, 2, 3)))
    image = read_image(path)
    assert image.size == (size[1], size[0])
    assert (image.pixels == [1, 2, 3]).all()
