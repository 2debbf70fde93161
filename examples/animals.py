"""Animals drawn with noise: each kind has a coat, a build and ears of its own.

Its pictures differ as photographs do in what does not matter: pose, size, place, light,
background and what stands in the way. What tells kinds apart (colours,
marking, hair, build) is the kind's own.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Pixels = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]

WIDTH, HEIGHT = 300, 225  # drawn at this size, and then enlarged to a photograph's
MARKINGS = ("plain", "saddle", "patches", "spots", "brindle", "belly")
_COATS = np.array(
    [
        (236, 228, 214), (214, 178, 128), (176, 116, 62), (122, 70, 38), (74, 46, 32),
        (36, 32, 32), (120, 118, 120), (168, 164, 158), (196, 142, 84), (92, 98, 110),
    ],
    np.float32,
)  # fmt: skip

_LANDS = np.array(
    [
        (96, 124, 58), (134, 150, 84), (70, 92, 62), (176, 158, 120), (204, 190, 160),
        (126, 104, 80), (150, 150, 148), (178, 204, 224), (120, 160, 200), (226, 226, 222),
        (92, 84, 88), (160, 92, 74),
    ],
    np.float32,
)  # fmt: skip
"""Grass, sand, earth, stone, sky, snow, brick."""


@dataclass(frozen=True)
class Animal:
    """What all pictures of a kind have in common. Lengths are shares of the body's length."""

    coat: Floats
    second: Floats
    marking: str
    grain: float
    """Size of spots, stripes or patches in pixels."""
    hair: float
    """Length of a hair in pixels: short and smooth, or long and shaggy."""
    curl: float
    contrast: float
    stout: float
    legs: float
    head: float
    muzzle: float
    ears: str
    ear_length: float
    mask: bool
    """Whether the face has the second colour."""

    @classmethod
    def of_kind(cls, kind: int) -> "Animal":
        """The kind with this number, always the same."""
        random = np.random.default_rng(kind)
        first, second = random.choice(len(_COATS), 2, replace=False)
        tint = random.normal(0, 9, (2, 3)).astype(np.float32)
        return cls(
            coat=_COATS[first] + tint[0],
            second=_COATS[second] + tint[1],
            marking=str(random.choice(MARKINGS)),
            grain=float(np.exp(random.uniform(np.log(5), np.log(22)))),
            hair=float(np.exp(random.uniform(np.log(2), np.log(16)))),
            curl=float(random.uniform(0, 1)),
            contrast=float(random.uniform(8, 34)),
            stout=float(random.uniform(0.34, 0.62)),
            legs=float(random.uniform(0.18, 0.6)),
            head=float(random.uniform(0.2, 0.34)),
            muzzle=float(random.uniform(0.3, 1.0)),
            ears=str(random.choice(("pricked", "hanging", "round"))),
            ear_length=float(random.uniform(0.5, 1.3)),
            mask=bool(random.random() < 0.5),
        )

    def draw(self, random: np.random.Generator) -> Pixels:
        """One picture: uint8, about 375 rows of 500 pixels in RGB."""
        length = random.uniform(90, 150)
        body, face = self._silhouette(length, random)
        coat = self._coat(face, random)
        light = (_noise(random, 4) * 0.12 + random.uniform(0.75, 1.1)).clip(0.35, 1.4)
        picture = _scenery(random)
        shadow = np.roll(body, (6, 8), (0, 1))[..., None] * 0.45
        picture = picture * (1 - shadow)
        picture = picture * (1 - body[..., None]) + coat * body[..., None]
        picture = _clutter(picture, random) * light[..., None]
        picture += random.normal(0, 3, picture.shape).astype(np.float32)
        pixels = picture.clip(0, 255).astype(np.uint8)
        if random.random() < 0.5:
            pixels = pixels[:, ::-1]
        scale = random.uniform(1.3, 2.1)
        size = round(WIDTH * scale), round(HEIGHT * scale * random.uniform(0.9, 1.1))
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))

    def _silhouette(self, length: float, random: np.random.Generator) -> tuple[Floats, Floats]:
        """Shares in which the animal, and its face, cover each pixel; the edge is hairy."""
        whole = Image.new("L", (WIDTH, HEIGHT))
        only_face = Image.new("L", (WIDTH, HEIGHT))
        draw, draw_face = ImageDraw.Draw(whole), ImageDraw.Draw(only_face)
        x = WIDTH * random.uniform(0.38, 0.58)
        y = HEIGHT * random.uniform(0.42, 0.6)
        half, thick = length / 2, length * self.stout / 2
        draw.ellipse((x - half, y - thick, x + half, y + thick), 255)
        foot = y + thick * 0.6 + length * self.legs
        for share in (-0.8, -0.6, 0.5, 0.75):
            at = x + half * share + random.normal(0, 3)
            step = random.normal(0, 6)
            width = length * 0.045
            draw.polygon([(at - width, y), (at + width, y), (at + step + width, foot),
                          (at + step - width, foot)], 255)  # fmt: skip
        tail = random.uniform(-0.9, 0.4) * length * 0.5
        draw.line([(x + half * 0.9, y - thick * 0.3), (x + half * 1.3, y + tail)], 255,
                  round(length * 0.06))  # fmt: skip
        radius = length * self.head / 2
        face_x, face_y = x - half * 0.95, y - thick * random.uniform(0.9, 1.5)
        draw.line([(x - half * 0.6, y), (face_x, face_y)], 255, round(radius * 1.5))
        for one in (draw, draw_face):
            one.ellipse((face_x - radius, face_y - radius, face_x + radius, face_y + radius), 255)
            nose = face_x - radius * (1 + self.muzzle)
            one.ellipse((nose, face_y - radius * 0.2, face_x, face_y + radius * 0.75), 255)
        ear = radius * self.ear_length
        for side in (-0.3, 0.6):
            root = face_x + radius * side
            if self.ears == "pricked":
                draw.polygon([(root - radius * 0.35, face_y - radius * 0.6),
                              (root + radius * 0.4, face_y - radius * 0.6),
                              (root + radius * 0.1, face_y - radius * 0.8 - ear)], 255)  # fmt: skip
            elif self.ears == "hanging":
                draw.ellipse((root, face_y - radius * 0.7, root + radius * 0.6,
                              face_y - radius * 0.7 + 1.6 * ear), 255)  # fmt: skip
            else:
                draw.ellipse((root - ear * 0.4, face_y - radius - ear * 0.5, root + ear * 0.4,
                              face_y - radius + ear * 0.4), 255)  # fmt: skip
        soft = np.asarray(whole.filter(ImageFilter.GaussianBlur(1 + self.hair / 6)), np.float32)
        edge = soft / 255 * (1 - soft / 255)
        ragged = soft / 255 + edge * _noise(random, 70) * min(2, self.hair / 5)
        face = only_face.filter(ImageFilter.GaussianBlur(2))
        cover: Floats = ((ragged - 0.35) * 4).clip(0, 1)
        return cover, np.asarray(face, np.float32) / np.float32(255)

    def _coat(self, face: Floats, random: np.random.Generator) -> Floats:
        """The coat over the whole canvas."""
        marking = self._marking(random)
        if self.mask:
            marking = np.maximum(marking, face)
        colour = self.coat + (self.second - self.coat) * marking[..., None]
        strands = _strands(random, self.hair, 90 * self.curl)
        coat: Floats = colour + (strands * self.contrast)[..., None]
        return coat

    def _marking(self, random: np.random.Generator) -> Floats:
        """Share of the second colour in each pixel."""
        rows = np.linspace(-1, 1, HEIGHT, dtype=np.float32)[:, None] + _noise(random, 12) * 0.25
        if self.marking == "plain":
            share: Floats = np.zeros((HEIGHT, WIDTH), np.float32)
        elif self.marking == "saddle":
            share = (-rows - 0.02) * 8
        elif self.marking == "belly":
            share = (rows - 0.1) * 8
        elif self.marking == "brindle":
            wave = np.linspace(0, WIDTH, WIDTH, dtype=np.float32) + _noise(random, 14) * 14
            share = (np.sin(wave * 2 * np.pi / self.grain) + 0.1) * 2
        elif self.marking == "spots":
            share = (_noise(random, WIDTH / self.grain) - 0.75) * 6
        else:
            share = (_noise(random, WIDTH / self.grain / 3) - 0.1) * 6
        return share.clip(0, 1)


def _noise(random: np.random.Generator, cells: float) -> Floats:
    """Smooth noise with so many cells across: (HEIGHT, WIDTH), mean 0, deviation about 1."""
    columns = max(2, round(cells))
    rows = max(2, round(cells * HEIGHT / WIDTH))
    coarse = random.normal(0, 1.4, (rows, columns)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def _strands(random: np.random.Generator, hair: float, curl: float) -> Floats:
    """Hair that lies in one direction, or in curls of two."""
    side = round(np.hypot(WIDTH, HEIGHT))
    layers = []
    for angle in (20, 20 + curl):
        coarse = random.normal(0, 1.2, (side // 2, max(2, round(side / hair / 2))))
        stretched = Image.fromarray(coarse.astype(np.float32)).resize((side, side))
        turned = np.asarray(stretched.rotate(angle, Image.Resampling.BILINEAR))
        top, left = (side - HEIGHT) // 2, (side - WIDTH) // 2
        layers.append(turned[top : top + HEIGHT, left : left + WIDTH])
    blend: Floats = layers[0] + (layers[1] - layers[0]) * (_noise(random, 24) > 0)
    return blend


def _scenery(random: np.random.Generator) -> Floats:
    """Ground and what is behind it: (HEIGHT, WIDTH, 3)."""
    horizon = random.uniform(0.2, 0.75) * HEIGHT + _noise(random, 6) * 5
    ground = np.arange(HEIGHT, dtype=np.float32)[:, None] > horizon
    layers = []
    for _ in range(2):
        colour = _LANDS[random.integers(len(_LANDS))] + random.normal(0, 14, 3).astype(np.float32)
        texture = sum(_noise(random, cells) for cells in random.uniform(4, 90, 3))
        layers.append(colour + np.asarray(texture)[..., None] * random.uniform(4, 18))
    scenery: Floats = np.where(ground[..., None], layers[0], layers[1])
    return scenery


def _clutter(picture: Floats, random: np.random.Generator) -> Floats:
    """A few things in front: stalks, stones, a fence."""
    mask = Image.new("L", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(mask)
    for _ in range(random.integers(0, 5)):
        x, y = random.uniform(0, WIDTH), random.uniform(HEIGHT * 0.5, HEIGHT)
        if random.random() < 0.5:
            draw.line([(x, HEIGHT), (x + random.normal(0, 30), y - 50)], 255, 3)
        else:
            size = random.uniform(6, 26)
            draw.ellipse((x - size, y - size * 0.7, x + size, y + size * 0.7), 255)
    cover = np.asarray(mask.filter(ImageFilter.GaussianBlur(1)), np.float32)[..., None] / 255
    things = _LANDS[random.integers(len(_LANDS))] * 0.8 + _noise(random, 40)[..., None] * 14
    covered: Floats = picture * (1 - cover) + things * cover
    return covered
