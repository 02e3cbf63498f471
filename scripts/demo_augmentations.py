"""The changes that training pictures go through, a whole batch at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

LUMA = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)


@dataclass(frozen=True, slots=True)
class Strength:
    """How much one view of a picture differs from the picture: shares of the batch, ranges."""

    least_area: float
    crop: float
    screenshot: float
    tilt: float
    quarter_turn: float
    flip: float
    colour: float
    grey: float
    blur: float
    noise: float
    blocks: float
    caption: float


MILD = Strength(0.6, 1.0, 0.0, 0.0, 0.0, 0.0, 0.2, 0.0, 0.1, 0.1, 0.1, 0.0)
STRONG = Strength(0.15, 0.7, 0.18, 0.35, 0.2, 0.4, 0.75, 0.25, 0.2, 0.25, 0.2, 0.12)


def _caption_strips(side: int, count: int = 64) -> Tensor:
    """Strips of drawn text, white on black: -> (count, side // 6, side) in 0..1."""
    rng = np.random.default_rng(7)
    strips = np.zeros((count, side // 6, side), dtype=np.float32)
    letters = np.array(list("ABCDEFGHIKLMNOPRSTUVW  0123456789"))
    for row in range(count):
        strip = Image.new("L", (side * 2, side // 3))
        font = ImageFont.load_default(size=int(rng.integers(side // 8, side // 4)))
        text = "".join(rng.choice(letters, 18))
        ImageDraw.Draw(strip).text((int(rng.integers(2, 20)), 2), text, fill=255, font=font)
        strips[row] = np.asarray(strip.resize((side, side // 6), Image.Resampling.BOX)) / 255
    return torch.from_numpy(strips)


class Augmenter:
    """Makes views of pictures: (n, 3, pool side, pool side) uint8 -> (n, 3, side, side) in 0..1."""

    def __init__(self, side: int, seed: int) -> None:
        self.side = side
        self.draws = torch.Generator().manual_seed(seed)
        self.strips = _caption_strips(side)

    def _chance(self, n: int, share: float) -> Tensor:
        return torch.rand(n, generator=self.draws) < share

    def _uniform(self, n: int, low: float, high: float) -> Tensor:
        return torch.rand(n, generator=self.draws) * (high - low) + low

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.draws)

    def __call__(self, pictures: Tensor, how: Strength) -> Tensor:
        """Make one view of each picture."""
        views = self._geometry(pictures.float().div_(255), how)
        views = self._colour(views, how)
        views = self._decay(views, how)
        return self._caption(views, how).clamp_(0, 1)

    def _geometry(self, pictures: Tensor, how: Strength) -> Tensor:
        n = len(pictures)
        area = self._uniform(n, how.least_area, 1.0)
        scale = torch.where(self._chance(n, how.crop), area.sqrt(), torch.ones(n))
        shot = self._chance(n, how.screenshot)
        scale = torch.where(shot, self._uniform(n, 1.1, 2.2), scale)
        aspect = torch.exp(self._normal(n) * 0.08)
        angle = self._normal(n) * math.radians(9) * self._chance(n, how.tilt)
        turns = torch.randint(1, 4, (n,), generator=self.draws) * self._chance(n, how.quarter_turn)
        angle = angle + turns * (math.pi / 2)
        mirror = 1 - 2 * self._chance(n, how.flip).float()
        shift = (self._uniform(2 * n, -1, 1).view(n, 2)) * (1 - scale).abs()[:, None]
        cos, sin = angle.cos() * scale, angle.sin() * scale
        theta = torch.stack(
            [
                torch.stack([cos * aspect * mirror, -sin / aspect, shift[:, 0]], 1),
                torch.stack([sin * aspect * mirror, cos / aspect, shift[:, 1]], 1),
            ],
            1,
        )
        grid = functional.affine_grid(theta, [n, 3, self.side, self.side], align_corners=False)
        soft = functional.pad(functional.avg_pool2d(pictures, 2, 1), (0, 1, 0, 1), mode="replicate")
        coarse = (scale > 0.7).view(n, 1, 1, 1)
        source = torch.where(coarse, soft, pictures)
        views = functional.grid_sample(source, grid, padding_mode="zeros", align_corners=False)
        inside = (grid.abs().amax(-1) <= 1.0).float()[:, None]
        return views * inside + self._paper(n, shot) * (1 - inside)

    def _paper(self, n: int, shot: Tensor) -> Tensor:
        """What lies around a tilted or shrunken picture: one tone, on screenshots with a bar."""
        tone = self._uniform(n, 0, 1).view(n, 1, 1, 1).expand(n, 3, self.side, self.side).clone()
        bar = self._uniform(3 * n, 0, 1).view(n, 3, 1, 1)
        rows = torch.arange(self.side).view(1, 1, -1, 1) < self.side // 10
        return torch.where(rows & shot.view(n, 1, 1, 1), bar, tone)

    def _colour(self, views: Tensor, how: Strength) -> Tensor:
        n = len(views)

        def factor(spread: float) -> Tensor:
            on = self._chance(n, how.colour)
            return torch.exp(self._uniform(n, -spread, spread) * on).view(n, 1, 1, 1)

        light = factor(0.9)
        mean = views.mean((1, 2, 3), keepdim=True)
        views = ((views - mean) * factor(0.8) + mean) * light
        grey = (views * LUMA).sum(1, keepdim=True)
        colourful = factor(1.0) * (~self._chance(n, how.grey)).view(n, 1, 1, 1)
        tint = 1 + 0.06 * how.colour * self._normal(n, 3).view(n, 3, 1, 1)
        return (grey + (views - grey) * colourful).mul_(tint).clamp_(0, 1)

    def _decay(self, views: Tensor, how: Strength) -> Tensor:
        n = len(views)
        blurred = self._chance(n, how.blur)
        if bool(blurred.any()):
            views[blurred] = _blur(views[blurred], float(self._uniform(1, 0.4, 1.8)))
        noisy = self._chance(n, how.noise)
        if bool(noisy.any()):
            level = self._uniform(int(noisy.sum()), 0, 0.12).view(-1, 1, 1, 1)
            views[noisy] += level * self._normal(len(level), 3, self.side, self.side)
        blocky = self._chance(n, how.blocks)
        if bool(blocky.any()):
            views[blocky] = self._quantise(views[blocky])
        return views

    def _quantise(self, views: Tensor) -> Tensor:
        """What strong JPEG compression does: rounds the cosines of every block."""
        n, side = len(views), self.side
        size = 4 if float(self._uniform(1, 0, 1)) < 0.6 else 8
        basis = _cosine_basis(size)
        blocks = views.view(n, 3, side // size, size, side // size, size).transpose(3, 4)
        step = self._uniform(n, 0.02, 0.25).view(n, 1, 1, 1, 1, 1)
        slope = 1 + torch.arange(size)[:, None] + torch.arange(size)[None, :]
        step = step * slope / 3
        rough = torch.round((basis @ blocks @ basis.T) / step) * step
        return (basis.T @ rough @ basis).transpose(3, 4).reshape(n, 3, side, side)

    def _caption(self, views: Tensor, how: Strength) -> Tensor:
        n = len(views)
        for row in torch.nonzero(self._chance(n, how.caption)).flatten().tolist():
            strip = self.strips[int(torch.randint(len(self.strips), (1,), generator=self.draws))]
            high = int(torch.randint(5, len(strip) + 1, (1,), generator=self.draws))
            paper, ink = self._uniform(2, 0, 1).tolist()
            text = paper + strip[:high] * ((1.0 if paper < 0.5 else 0.0) - paper) * max(ink, 0.4)
            if float(self._uniform(1, 0, 1)) < 0.7:
                views[row, :, -high:] = text
            else:
                views[row, :, :high] = text
        return views


def _cosine_basis(size: int) -> Tensor:
    """The orthonormal cosine transform of a block, (size, size)."""
    rows = torch.arange(size).float()
    basis = torch.cos(math.pi / size * (rows[None, :] + 0.5) * rows[:, None])
    basis[0] /= math.sqrt(2)
    return basis * math.sqrt(2 / size)


def _blur(views: Tensor, sigma: float) -> Tensor:
    reach = max(1, round(2 * sigma))
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    line = (line / line.sum()).view(1, 1, 1, -1).repeat(3, 1, 1, 1)
    views = functional.conv2d(
        functional.pad(views, (reach, reach, 0, 0), mode="replicate"), line, groups=3
    )
    tall = line.transpose(2, 3)
    return functional.conv2d(
        functional.pad(views, (0, 0, reach, reach), mode="replicate"), tall, groups=3
    )
