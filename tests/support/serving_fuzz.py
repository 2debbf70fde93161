"""Requests that nobody should send: mutated files and arrays, broken containers, odd headers."""

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import serving_requests as bodies
from PIL import Image
from serving_artifacts import encoded, npy, photograph


@dataclass(frozen=True)
class Request:
    """One POST to /invocations."""

    body: bytes
    content_type: str
    headers: dict[str, str]


def files() -> list[bytes]:
    """Images of every kind that the decoders know and Pillow can write."""
    photo = photograph(size=(40, 30))
    grey, palette = photo.convert("L"), photo.convert("P")
    transparent = photo.convert("RGBA")
    transparent.putalpha(grey)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        encoded(photo),
        encoded(photo, quality=20, progressive=True),
        encoded(photo, quality=95, subsampling=0, exif=exif),
        encoded(photo, restart_marker_rows=1),
        encoded(photo.convert("CMYK")),
        encoded(grey),
        encoded(photo, "PNG"),
        encoded(palette, "PNG", bits=4),
        encoded(transparent, "PNG"),
        encoded(deep, "PNG"),
        encoded(photo.convert("1"), "PNG"),
        encoded(photo, "PNG", save_all=True, append_images=[photo, photo]),
        encoded(photo, "WEBP"),
        encoded(transparent, "WEBP", lossless=True),
        encoded(photo, "WEBP", save_all=True, append_images=[photo]),
        encoded(palette, "GIF"),
        encoded(palette, "GIF", save_all=True, append_images=[palette, palette]),
        encoded(photo, "BMP"),
        encoded(palette, "BMP"),
        encoded(photo, "TIFF"),
        *(
            encoded(photo, "TIFF", compression=name)
            for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
        ),
        encoded(photo.convert("1"), "TIFF", compression="group4"),
        encoded(deep, "TIFF"),
        encoded(photo.convert("CMYK"), "TIFF"),
    ]


IMAGE_TYPES = ("application/x-image", "image/jpeg", "image/png", "image/tiff")
ACCEPTS = (
    *("application/json", "application/json; verbose=true", "text/csv", "text/csv; top_k=2"),
    *("application/jsonlines", "image/png", "*/*", "application/json; explain=cam", "a/b", ";;"),
    *("application/json; explain=", "application/json; explain=cam; class=x", "text/csv;q=2"),
)
ATTRIBUTES = ("", "top_k=1", "top_k=0", "verbose=1", "explain=cam", "=" * 1024, "top_k=" + "9" * 99)


class Fuzzer:
    """An endless stream of requests, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._files = files()
        self._arrays = [
            npy(np.asarray(photograph(size=(40, 30)))),
            npy(np.zeros((2, 5, 5, 3), "u1")),
        ]
        self._kinds: tuple[tuple[int, Callable[[], Request]], ...] = (
            (10, self._image),
            (3, self._spliced),
            (2, self._array),
            (1, self._array_header),
            (2, self._noise),
            (2, self._several),
            (2, self._archive),
            (1, self._document),
        )

    def __iter__(self) -> Iterator[Request]:
        weights = np.array([weight for weight, _ in self._kinds], float)
        while True:
            chosen = self._random.choice(len(self._kinds), p=weights / weights.sum())
            yield self._kinds[chosen][1]()

    def _image(self) -> Request:
        return self._request(self._mutated(self._file()), self._one_of(IMAGE_TYPES))

    def _spliced(self) -> Request:
        """The beginning of one file and the end of another."""
        first, second = self._file(), self._file()
        body = first[: self._below(len(first))] + second[self._below(len(second)) :]
        return self._request(body, self._one_of(IMAGE_TYPES))

    def _array(self) -> Request:
        array = self._arrays[self._below(len(self._arrays))]
        return self._request(self._mutated(array), "application/x-npy")

    def _array_header(self) -> Request:
        shape = tuple(int(n) for n in self._random.integers(-2, 2**40, self._below(6)))
        header = repr({"descr": "|u1", "fortran_order": False, "shape": shape}).encode()
        prefix = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header))
        return self._request(prefix + self._mutated(header) + bytes(99), "application/x-npy")

    def _noise(self) -> Request:
        kinds = (*IMAGE_TYPES, "application/json", "application/zip", "application/x-tar", "x")
        return self._request(self._random.bytes(self._below(400)), self._one_of(kinds))

    def _several(self) -> Request:
        body = bodies.form(*(self._mutated(self._file()) for _ in range(self._below(4))))
        return self._request(self._perhaps_mutated(body), bodies.FORM_TYPE)

    def _archive(self) -> Request:
        members = [(f"{n}.jpg", self._mutated(self._file())) for n in range(self._below(4))]
        if self._below(2):
            return self._request(self._perhaps_mutated(bodies.tar(members)), "application/x-tar")
        return self._request(self._perhaps_mutated(bodies.zipped(members)), "application/zip")

    def _document(self) -> Request:
        images = [self._mutated(self._file()) for _ in range(self._below(3))]
        if self._below(2):
            return self._request(
                self._perhaps_mutated(bodies.lines(*images)), "application/jsonlines"
            )
        body = bodies.document(*images) if images else json.dumps({"image": "QUJD"}).encode()
        return self._request(self._perhaps_mutated(body), "application/json")

    def _request(self, body: bytes, content_type: str) -> Request:
        headers = {}
        if self._below(4) == 0:
            headers["Accept"] = self._one_of(ACCEPTS)
        if self._below(8) == 0:
            headers["X-Amzn-SageMaker-Custom-Attributes"] = self._one_of(ATTRIBUTES)
        return Request(body, content_type, headers)

    def _mutated(self, original: bytes) -> bytes:
        """Some bytes changed, most of them in the header; parts doubled, missing, cut off."""
        data = bytearray(original or b"x")
        for _ in range(self._below(7)):
            near = min(len(data), (16, 64, 200, len(data))[self._below(4)])
            data[self._below(near)] = (0, 255, 127, 128, self._below(256))[self._below(5)]
        if self._below(6) == 0:
            start = self._below(len(data))
            data[start:start] = data[start : start + self._below(64)]
        if self._below(6) == 0:
            start = self._below(len(data))
            del data[start : start + self._below(64)]
        if self._below(4) == 0:
            del data[self._below(len(data) + 1) :]
        return bytes(data)

    def _perhaps_mutated(self, body: bytes) -> bytes:
        return self._mutated(body) if self._below(2) else body

    def _file(self) -> bytes:
        return self._files[self._below(len(self._files))]

    def _one_of(self, words: tuple[str, ...]) -> str:
        return words[self._below(len(words))]

    def _below(self, most: int) -> int:
        return int(self._random.integers(most)) if most > 0 else 0
