import io
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from container import image_costs, images
from container.images import ImageError, ImageTooLargeError, Preprocessing, center_crop, decode


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(width: int, height: int) -> Image.Image:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    kind = {"CMYK": "JPEG", "YCbCr": "JPEG", "F": "TIFF"}.get(mode, "PNG")
    if mode == "I;16":
        image = Image.fromarray(np.full((40, 60), 32_896, np.uint16))
    else:
        image = Image.new("RGB", (60, 40), (128, 128, 128)).convert(mode)
    pixels = decode(encode(image, kind), 32)
    assert pixels.shape == (32, 48, 3)
    assert pixels.dtype == np.uint8
    if mode != "1":
        assert abs(int(pixels.mean()) - 128) <= 2


def test_transparent_parts_become_white() -> None:
    assert decode(encode(Image.new("RGBA", (40, 40), (0, 0, 0, 0))), 32).min() == 255


def test_a_rotated_photograph_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate 90 degrees clockwise to display"
    pixels = decode(encode(gradient(80, 40), "JPEG", exif=exif), 32)
    assert pixels.shape == (64, 32, 3)
    assert pixels[0, :, 0].mean() < 20
    assert pixels[-1, :, 0].mean() > 200


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data, 32)[0, 0].tolist() == [255, 0, 0]


def test_a_large_photograph_keeps_its_content_through_the_fast_decoder() -> None:
    image = gradient(3000, 2000)
    quick = decode(encode(image, "JPEG", quality=95), 64).astype(int)
    exact = np.asarray(image.resize((96, 64), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(quick - exact).max() <= 4


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 5000), (5000, 1), (33, 32), (7, 400)])
def test_any_proportions_give_a_full_square_and_bounded_memory(width: int, height: int) -> None:
    preprocessing = Preprocessing.for_image_size(224)
    data = encode(Image.new("RGB", (width, height)))
    assert preprocessing(data).shape == (224, 224, 3)
    assert decode(data, 256).size <= 256 * 256 * images.MAX_ASPECT * 3


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 900),
    height=st.integers(1, 900),
    size=st.sampled_from([32, 96, 224]),
    seed=st.integers(0, 1000),
)
def test_the_square_alone_is_what_is_cut_out_of_the_whole(
    width: int, height: int, size: int, seed: int
) -> None:
    # Noise is the worst case: on it the two round differently most often.
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    data = encode(Image.fromarray(noise), compress_level=0)
    preprocessing = Preprocessing.for_image_size(size)
    whole = center_crop(decode(data, preprocessing.resize_size), size).astype(int)
    square = preprocessing(data).astype(int)
    assert square.shape == (size, size, 3)
    difference = np.abs(square - whole)
    assert difference.max() <= 2
    assert difference.mean() < 0.5


def test_half_transparent_parts_are_mixed_with_white_before_they_are_resized() -> None:
    image = np.zeros((64, 64, 4), np.uint8)
    image[..., 3] = np.random.default_rng(0).integers(0, 256, (64, 64))
    expected = 255 - image[..., 3]
    exact = Image.fromarray(expected).resize((32, 32), Image.Resampling.BILINEAR)
    pixels = decode(encode(Image.fromarray(image)), 32).astype(int)
    assert np.abs(pixels[..., 0] - np.asarray(exact).astype(int)).max() <= 2


def test_huge_images_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "HUGE_PIXELS", 100)
    data = encode(gradient(40, 40))
    with images._one_huge_image, ThreadPoolExecutor(1) as pool:
        held = pool.submit(decode, data, 32)
        with pytest.raises(TimeoutError):
            held.result(0.1)
        monkeypatch.undo()
        assert decode(data, 32).shape == (32, 32, 3)
        images._one_huge_image.release()
        assert held.result(10).shape == (32, 32, 3)
        images._one_huge_image.acquire()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    chunks = [(b"IHDR", struct.pack(">II5B", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.mark.parametrize("side", [12_000, 60_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    with pytest.raises(ImageTooLargeError, match="100 million"):
        decode(png_header(side, side), 256)


def with_tiles(
    width: int, length: int, *, twice: bool = False, order: str = "<", kind: int = 4
) -> bytes:
    """A TIFF of 30 x 20 pixels, stored in one compressed tile of this size."""
    packed = zlib.compress(bytes(min(width, 512) * min(length, 512) * 3), 9)
    entries = [(256, 4, 30), (257, 4, 20), (258, 3, 8), (259, 3, 8), (262, 3, 2), (277, 3, 3)]
    entries += [(322, kind, width), (323, kind, length)]
    entries += [(322, 4, 512), (323, 4, 512)] if twice else []
    entries += [(324, 4, 14), (325, 4, len(packed))]
    directory = struct.pack(order + "H", len(entries))
    for tag, type_, value in entries:
        if tag == 258:  # three numbers, which stand before the pixels
            directory += struct.pack(order + "HHII", tag, type_, 3, 8)
        else:
            field = "HHIHH" if type_ == 3 else "HHII"
            values = (value, 0) if type_ == 3 else (value,)
            directory += struct.pack(order + field, tag, type_, 1, *values)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 14 + len(packed))
    return head + struct.pack(order + "3H", 8, 8, 8) + packed + directory + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_s_tile_is_counted_as_its_pixels_are(order: str) -> None:
    assert decode(with_tiles(512, 512, order=order), 32).shape == (32, 48, 3)
    for bomb in (
        with_tiles(16_384, 20_480, order=order),
        with_tiles(16_384, 20_480, order=order, twice=True),
        with_tiles(512, 512, order=order, kind=17),
    ):
        with pytest.raises(ImageTooLargeError, match="tiles of more than the 100 million"):
            decode(bomb, 32)


def test_of_images_in_huge_tiles_one_is_decoded_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(images, "HUGE_PIXELS", 512 * 512 - 1)
    with images._one_huge_image, ThreadPoolExecutor(1) as pool:
        held = pool.submit(decode, with_tiles(512, 512), 32)
        with pytest.raises(TimeoutError):
            held.result(0.1)
        images._one_huge_image.release()
        assert held.result(10).shape == (32, 48, 3)
        images._one_huge_image.acquire()


def with_scans(photograph: bytes, scans: int) -> bytes:
    """A progressive JPEG whose last scan comes so many times more."""
    return photograph[:-2] + photograph[photograph.rindex(b"\xff\xda") : -2] * scans + b"\xff\xd9"


def test_a_jpeg_of_thousands_of_scans_is_refused() -> None:
    photograph = encode(gradient(640, 480), "JPEG", progressive=True)
    bomb = with_scans(photograph, 20_000)
    started = time.monotonic()
    with pytest.raises(ImageError, match="more than 100 scans"):
        decode(bomb, 32)
    assert time.monotonic() - started < 0.5
    assert decode(with_scans(photograph, 80), 32).shape == (32, 43, 3)


def test_a_jpeg_of_one_component_a_scan_is_refused_where_it_has_thousands() -> None:
    plain = encode(gradient(64, 48), "JPEG")
    scan = plain.rindex(b"\xff\xda")
    luma = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    for repeated, refused in ((5, False), (5000, True)):
        data = plain[:scan] + luma * repeated + b"\xff\xd9"
        assert image_costs.has_too_many_scans(data) is refused


def test_what_only_looks_like_scans_refuses_no_photograph() -> None:
    looks = b"\xff\xda" * 1000
    exif = b"\xff\xe1" + (2 + len(looks)).to_bytes(2, "big") + looks
    for photograph in (
        encode(gradient(640, 480), "JPEG"),
        encode(gradient(640, 480), "JPEG", progressive=True),
    ):
        # In its metadata, and in the film that a telephone writes after its end.
        assert decode(photograph[:2] + exif + photograph[2:] + looks, 32).shape == (32, 43, 3)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "The image is empty: 0 bytes."),
        (b"hello", "This is not an image in one of the formats"),
        (encode(gradient(64, 64), "JPEG")[:-200], "The image is damaged: "),
        (encode(gradient(64, 64))[:120], "The image is damaged: "),
    ],
)
def test_what_is_not_an_image_is_refused_in_one_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(ImageError) as raised:
        decode(data, 32)
    assert str(raised.value).startswith(sentence)


ORIGINALS = [
    encode(gradient(48, 40), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(ORIGINALS), st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=8)
)
def test_a_mutated_image_is_decoded_or_refused(
    original: bytes, mutations: list[tuple[int, int]]
) -> None:
    data = bytearray(original)
    for position, value in mutations:
        data[position % len(data)] = value
    try:
        pixels = decode(bytes(data), 32)
    except ImageError:
        return
    assert min(pixels.shape[:2]) == 32


def test_serving_s_square_is_the_middle_of_the_whole_image() -> None:
    preprocessing = Preprocessing.for_image_size(32)
    image = gradient(100, 80)
    from_bytes = preprocessing(encode(image))
    middle = center_crop(decode(encode(image), 37), 32)
    assert np.abs(from_bytes.astype(int) - middle).max() <= 1, "up to rounding"
    assert np.array_equal(from_bytes, preprocessing.from_pixels(np.asarray(image)))
