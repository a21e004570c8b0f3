"""Reading a picture from wherever it lies into one form: RGB bytes, upright, of a sane size.

What is done to a picture on the way in:

* the EXIF orientation is applied, so that rows run from top to bottom as a viewer shows them;
* grey, bilevel, palette and CMYK pictures become RGB;
* transparent pixels are composited on white;
* 16-bit values are scaled to 8 bit by 255/65535 (rounded);
* of an animation the current frame is taken, which is the first one for a file;
* colour profiles are not applied.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from anymask.errors import ImageError, MissingExtraError

MAX_PIXELS: Final = 250_000_000
"""Default size limit in pixels: above the largest cameras, below what would fill the memory."""

# Formats that hold photographs. PostScript and Windows metafiles are programs rather than
# pictures, and Pillow would start an interpreter for them, so they are not on this list.
# fmt: off
FORMATS: Final = (
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "ICO", "IM", "JPEG", "JPEG2000", "MPO", "PCX", "PNG",
    "PPM", "QOI", "SGI", "SUN", "TGA", "TIFF", "WEBP", "XBM",
)
_HEIC_BRANDS: Final = (
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1",
)
# fmt: on
_STRIP_ROWS: Final = 512
_ORIENTATION_TAG: Final = 0x0112
# Arithmetic in 32 bits may leave 0..1 by a rounding error; that much is clipped silently.
_FLOAT_SLACK: Final = 1e-5


@dataclass(frozen=True, eq=False)
class Image:
    """A picture as every part of anymask takes it.

    Attributes:
        pixels: (H, W, 3) uint8, RGB, upright.
        path: the file it came from, if any.

    Raises:
        ImageError: `pixels` is not (H, W, 3) uint8 or has no pixels.
    """

    pixels: NDArray[np.uint8]
    path: Path | None = None

    def __post_init__(self) -> None:
        pixels = self.pixels
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
            raise ImageError(
                "Image takes (H, W, 3) uint8 RGB pixels; use read_image(...) for anything else."
            )
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
            raise ImageError(
                f"Image takes (H, W, 3) uint8 RGB pixels, not an array of shape {pixels.shape}; "
                "use read_image(...) for anything else."
            )

    @property
    def height(self) -> int:
        """Rows, in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns, in pixels."""
        return int(self.pixels.shape[1])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels, the order used everywhere in anymask."""
        return self.height, self.width

    def to_pil(self) -> PIL.Image.Image:
        """The picture as a new PIL image in mode RGB."""
        return PIL.Image.fromarray(np.ascontiguousarray(self.pixels))

    def __repr__(self) -> str:
        where = f", path={str(self.path)!r}" if self.path is not None else ""
        return f"Image({self.height}x{self.width} RGB{where})"


def read_image(source: Any, max_pixels: int = MAX_PIXELS) -> Image:
    """Read a picture from a file, PIL, numpy or torch.

    Args:
        source: one of

            * a path (`str` or `Path`) or a binary file object, in any usual picture format;
            * a `PIL.Image.Image` (its EXIF orientation is applied too);
            * a numpy array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), RGB(A): bool, integer in
              0..255, uint16 in 0..65535, or float in 0..1;
            * a torch tensor of the same kinds, channels first (C, H, W) or last; where both
              readings are possible, channels are first;
            * an `Image`, which is returned as it is.

            A uint8 RGB array is not copied: the result shares its memory.
        max_pixels: pictures with more pixels are refused, for files before they are decoded.

    Returns:
        The picture, (H, W, 3) uint8 RGB; `path` is set where the source is a path.

    Raises:
        ImageError: the picture is missing, broken, empty, too large or of an unknown kind.
        MissingExtraError: a HEIC picture without the extra `heic`.
    """
    if isinstance(source, Image):
        _check_size(source.width, source.height, max_pixels, "the picture")
        return source
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return Image(_read_path(path, str(source), max_pixels), path)
    if isinstance(source, PIL.Image.Image):
        _check_size(source.width, source.height, max_pixels, "the picture")
        return Image(_decode(source, "the picture"))
    if isinstance(source, np.ndarray):
        return Image(_from_array(source, max_pixels))
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(source, torch.Tensor):
        return Image(_from_tensor(source, torch, max_pixels))
    if hasattr(source, "read") and hasattr(source, "seek"):
        name = str(getattr(source, "name", "the stream"))
        return Image(_read_stream(source, name, max_pixels))
    raise ImageError(
        f"cannot read a picture from a {type(source).__name__}: "
        "give a path, a PIL image, a numpy array (H, W, 3) or a torch tensor (3, H, W)."
    )


def _check_size(width: int, height: int, max_pixels: int, name: str) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{name} has no pixels ({width}x{height}).")
    if width * height > max_pixels:
        raise ImageError(
            f"{name} is {width}x{height}, {width * height / 1e6:,.0f} million pixels; the limit "
            f"is {max_pixels / 1e6:,.0f} million. If the picture is meant to be that large, "
            "raise `max_pixels`."
        )


# ---------------------------------------------------------------------------------------- files


def _read_path(path: Path, name: str, max_pixels: int) -> NDArray[np.uint8]:
    if name.startswith(("http://", "https://", "s3://", "gs://")):
        raise ImageError(f"{name} is an address: download the picture and give its file.")
    try:
        if path.is_dir():
            raise ImageError(
                f"{name} is a folder: give the pictures in it one by one, "
                "or run `anymask discover` on the folder."
            )
        with path.open("rb") as stream:
            return _read_stream(stream, name, max_pixels)
    except FileNotFoundError:
        raise ImageError(
            f"{name} does not exist: check the spelling and the folder "
            f"({Path.cwd() if not path.is_absolute() else path.parent})."
        ) from None
    except PermissionError:
        raise ImageError(f"{name} cannot be opened: permission denied.") from None
    except (OSError, ValueError) as error:
        # ImageError is a ValueError; what is left are names no file can have (a NUL byte, too long)
        # and failures of the disk.
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{name[:200]!r} cannot be opened: {error}.") from error


def _read_stream(stream: BinaryIO, name: str, max_pixels: int) -> NDArray[np.uint8]:
    start = stream.tell()
    head = stream.read(64)
    stream.seek(start)
    if not head:
        raise ImageError(f"{name} is empty (0 bytes): copy or download it again.")
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        _register_heic(name)
    with _pillow_limit_raised_to(max_pixels):
        try:
            with PIL.Image.open(stream, formats=_known_formats()) as picture:
                _check_size(picture.width, picture.height, max_pixels, name)
                return _decode(picture, name)
        except PIL.UnidentifiedImageError:
            raise ImageError(_not_a_picture(name, head)) from None
        except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning):
            raise ImageError(
                f"{name} claims to have far more than {max_pixels / 1e6:,.0f} million pixels, the "
                "limit. If the picture is meant to be that large, raise `max_pixels`."
            ) from None
        except (ImageError, MissingExtraError):
            raise
        except Exception as error:
            # Decoders raise nearly anything on broken bytes (OSError, SyntaxError, struct.error,
            # IndexError, ...): to the caller they all mean the same.
            raise ImageError(_broken(name, error)) from error


def _known_formats() -> list[str]:
    PIL.Image.init()
    return [name for name in FORMATS if name in PIL.Image.OPEN]


def _register_heic(name: str) -> None:
    if "HEIF" in PIL.Image.OPEN:
        return
    try:
        plugin = importlib.import_module("pillow_heif")
    except ImportError:
        raise MissingExtraError(f"{name} is a HEIC picture, and reading those", "heic") from None
    plugin.register_heif_opener()


def _not_a_picture(name: str, head: bytes) -> str:
    if head.startswith(b"version https://git-lfs"):
        return f"{name} is a Git LFS pointer, not the picture itself: run `git lfs pull`."
    if head.startswith(b"%PDF"):
        return f"{name} is a PDF document: export its pages as PNG or JPEG first."
    if head.startswith(b"%!PS"):
        return f"{name} is a PostScript file: export it as PNG or JPEG first."
    if head.lstrip()[:5].lower() in (b"<!doc", b"<html"):
        return f"{name} is a web page, not a picture: download the picture itself."
    if head.lstrip()[:4].lower() == b"<svg":
        return f"{name} is an SVG drawing: export it as PNG first."
    printable = all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head)
    if printable and not head.startswith(b"GIF8"):
        return f"{name} is a text file, whatever its name says: give a picture."
    return (
        f"{name} is not a picture in a format anymask can read, or its beginning is damaged: "
        "convert it to PNG or JPEG, or copy it again."
    )


def _broken(name: str, error: Exception) -> str:
    if isinstance(error, MemoryError):
        return f"{name} does not fit into memory: use a smaller picture or more memory."
    what = "is truncated" if "truncat" in str(error) else "is damaged"
    return f"{name} {what} ({error}): copy or download it again."


_limit_lock = threading.Lock()
_limit_users = 0
_limit_before: int | None = None


@contextlib.contextmanager
def _pillow_limit_raised_to(max_pixels: int) -> Iterator[None]:
    """Let Pillow open pictures up to `max_pixels` without a warning.

    Pillow's own limit is a module global; it is put back when the last reader has finished.
    """
    global _limit_users, _limit_before
    with _limit_lock:
        if _limit_users == 0:
            _limit_before = PIL.Image.MAX_IMAGE_PIXELS
        _limit_users += 1
        current = PIL.Image.MAX_IMAGE_PIXELS
        if current is not None and current < max_pixels:
            PIL.Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        yield
    finally:
        with _limit_lock:
            _limit_users -= 1
            if _limit_users == 0:
                PIL.Image.MAX_IMAGE_PIXELS = _limit_before


# ------------------------------------------------------------------------------- PIL to pixels


def _decode(picture: PIL.Image.Image, name: str) -> NDArray[np.uint8]:
    """PIL image of any mode -> (H, W, 3) uint8, upright."""
    picture.load()
    # After load: Pillow turns TIFF files itself while loading and then drops the tag.
    orientation = picture.getexif().get(_ORIENTATION_TAG, 1)
    turned = orientation in (5, 6, 7, 8)
    shape = (picture.width, picture.height) if turned else (picture.height, picture.width)
    pixels = np.empty((*shape, 3), np.uint8)
    stored = _as_stored(pixels, orientation)
    # Strip by strip: PIL keeps 4 bytes a pixel, and whole-picture conversions would hold the
    # picture three times. This matters at 100 megapixels.
    for top in range(0, picture.height, _STRIP_ROWS):
        bottom = min(top + _STRIP_ROWS, picture.height)
        strip = picture
        if picture.height > _STRIP_ROWS:
            strip = picture.crop((0, top, picture.width, bottom))
        stored[top:bottom] = _strip_to_rgb(strip, name)
    return pixels


def _strip_to_rgb(strip: PIL.Image.Image, name: str) -> NDArray[np.uint8]:
    mode = strip.mode
    if mode == "RGB" and "transparency" not in strip.info:
        return np.asarray(strip)
    if mode.startswith("I;16") or mode == "I":
        values = np.asarray(strip)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(
                f"{name} has 32-bit values outside 0..65535: scale it to 8 or 16 bit first."
            )
        return _grey_to_rgb(_scale_16_bit(values))
    if mode == "F":
        return _grey_to_rgb(_scale_float(np.asarray(strip), name))
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in strip.info:
        return _on_white(np.asarray(strip.convert("RGBA")))
    try:
        return np.asarray(strip.convert("RGB"))
    except ValueError as error:
        raise ImageError(
            f"{name} has the colour mode {mode}, which cannot be turned into RGB ({error}): "
            "save it as RGB first."
        ) from None


def _as_stored(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """A view of an upright picture in which rows and columns run as in the file.

    Writing the file's pixels into the view undoes its EXIF orientation (Exif 2.32, tag 0x0112)
    without a second copy of the picture.
    """
    match orientation:
        case 2:
            return upright[:, ::-1]
        case 3:
            return upright[::-1, ::-1]
        case 4:
            return upright[::-1]
        case 5:
            return upright.transpose(1, 0, 2)
        case 6:
            return upright[:, ::-1].transpose(1, 0, 2)
        case 7:
            return upright[::-1, ::-1].transpose(1, 0, 2)
        case 8:
            return upright[::-1].transpose(1, 0, 2)
        case _:
            return upright


# ------------------------------------------------------------------------------ arrays to pixels


def _from_tensor(tensor: Any, torch: Any, max_pixels: int) -> NDArray[np.uint8]:
    values = tensor.detach().cpu()
    if values.dtype == torch.bfloat16:
        values = values.float()
    array: NDArray[Any] = values.numpy()
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    elif array.ndim == 4:
        raise ImageError(
            f"a batch of shape {tuple(array.shape)} is not one picture: give its elements one "
            "by one."
        )
    return _from_array(array, max_pixels)


def _from_array(array: NDArray[Any], max_pixels: int) -> NDArray[np.uint8]:
    shape = array.shape
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4)):
        hint = ""
        if array.ndim == 3 and shape[0] in (1, 3, 4):
            hint = " Channels come last in numpy: use array.transpose(1, 2, 0)."
        elif array.ndim == 4:
            hint = " Give the pictures of a batch one by one."
        raise ImageError(
            f"an array of shape {shape} is not a picture: "
            f"(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) is expected.{hint}"
        )
    _check_size(shape[1], shape[0], max_pixels, "the array")
    values = _to_bytes(array)
    if values.ndim == 2 or values.shape[2] == 1:
        return _grey_to_rgb(values.reshape(shape[0], shape[1]))
    if values.shape[2] == 4:
        pixels = np.empty((shape[0], shape[1], 3), np.uint8)
        for top in range(0, shape[0], _STRIP_ROWS):
            pixels[top : top + _STRIP_ROWS] = _on_white(values[top : top + _STRIP_ROWS])
        return pixels
    return values


def _to_bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Values of any accepted dtype -> uint8 of the same shape."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return _scale_16_bit(array)
    if np.issubdtype(array.dtype, np.integer):
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > 255:
            raise ImageError(
                f"a {array.dtype} array with values {low}..{high} is not a picture: use uint8 "
                "(0..255), uint16 (0..65535) or float (0..1)."
            )
        return array.astype(np.uint8)
    if np.issubdtype(array.dtype, np.floating):
        return _scale_float(array, "the array")
    raise ImageError(
        f"an array of dtype {array.dtype} is not a picture: use uint8 (0..255), uint16 "
        "(0..65535), float (0..1) or bool."
    )


def _scale_16_bit(values: NDArray[Any]) -> NDArray[np.uint8]:
    # 65535 = 255 * 257, so this is the exact rounded quotient.
    result = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _STRIP_ROWS):
        strip = values[top : top + _STRIP_ROWS].astype(np.uint32)
        result[top : top + _STRIP_ROWS] = (strip + 128) // 257
    return result


def _scale_float(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    result = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _STRIP_ROWS):
        strip = values[top : top + _STRIP_ROWS].astype(np.float32)
        if not np.isfinite(strip).all():
            raise ImageError(
                f"{name} has values that are NaN or infinite: replace them (numpy.nan_to_num) "
                "before reading."
            )
        low, high = float(strip.min()), float(strip.max())
        if low < -_FLOAT_SLACK or high > 1 + _FLOAT_SLACK:
            hint = (
                "divide by 255, or convert to uint8"
                if low >= 0 and 2 < high <= 255
                else "scale or clip it to 0..1"
            )
            raise ImageError(
                f"{name} has float values {low:.4g}..{high:.4g}; float pictures lie in 0..1: "
                f"{hint}."
            )
        result[top : top + _STRIP_ROWS] = np.rint(strip.clip(0, 1) * 255)
    return result


def _grey_to_rgb(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) -> (H, W, 3)"""
    return np.repeat(grey[:, :, None], 3, axis=2)


def _on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 4) straight alpha -> (H, W, 3) composited on white, rounded."""
    alpha = rgba[:, :, 3:].astype(np.uint32)
    blended = rgba[:, :, :3] * alpha + 255 * (255 - alpha)
    return ((blended + 127) // 255).astype(np.uint8)
