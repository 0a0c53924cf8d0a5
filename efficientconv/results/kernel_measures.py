"""Measures of k x k kernels: how near each kernel is to the identity, a low-pass, a high-pass, an edge.

Every measure is of a kernel's shape: it stays the same when the kernel is multiplied by a positive number. The cosines keep
the sign. The kinds ignore the sign, because the projection after a kernel can change it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache

import numpy as np

TEMPLATES = ("identity", "low-pass", "high-pass", "edge")
KINDS = (*TEMPLATES, "other", "dead")
KIND_ENERGY = 0.5  # a kind's template holds more of a kernel's energy than all the rest
DEAD_SHARE = 0.05  # of the median norm in its layer; a smaller kernel passes on almost nothing, and its shape is noise
RANDOM_KERNELS = 20_000


@dataclass(frozen=True)
class Kernels:
    """n kernels K of one size, n x k x k, and the measures of each.

    norms: Frobenius norms.
    cosines: n x 4, <K, T> / (|K| |T|) with each of TEMPLATES, as `templates` and `edges` give them; of all edges that of
        the best direction, and so 0 .. 1. NaN where k x k has no such template.
    kinds: n of KINDS: the template of the largest |cosine|, `other` where its square is below KIND_ENERGY, `dead` where the
        norm is at most DEAD_SHARE of the median.
    """

    entries: np.ndarray
    norms: np.ndarray
    cosines: np.ndarray
    kinds: np.ndarray

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def size(self) -> int:
        return self.entries.shape[-1]

    def share_of(self, kind: str) -> float:
        """The share of this kind in all kernels."""
        return float(np.mean(self.kinds == kind))

    @property
    def identity(self) -> np.ndarray:
        """|cosine| with the identity of each kernel that is not dead."""
        return np.abs(self.cosines[self.kinds != "dead", 0])


def measure(kernels: np.ndarray) -> Kernels:
    """The measures of the kernels of one layer, n x k x k with k > 1."""
    flat = kernels.reshape(len(kernels), -1).astype(np.float64)
    norms = np.linalg.norm(flat, axis=1)
    unit, size = flat / np.where(norms > 0, norms, 1)[:, None], kernels.shape[-1]
    edge = np.hypot(*(unit @ direction for direction in edges(size)))
    cosines = np.column_stack([*(unit @ template for template in templates(size)), edge])
    closeness = np.nan_to_num(np.abs(cosines))
    kinds = np.where(closeness.max(axis=1) ** 2 < KIND_ENERGY, "other", np.array(TEMPLATES)[closeness.argmax(axis=1)])
    return Kernels(kernels, norms, cosines, np.where(norms <= DEAD_SHARE * np.median(norms), "dead", kinds))


def joined(parts: Sequence[Kernels]) -> Kernels:
    """The kernels of several layers together. A kernel is dead by the median of its own layer."""
    return Kernels(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Kernels)))


@cache
def of_random(size: int) -> Kernels:
    """The measures of kernels with independent Gaussian entries, as at the start of a training: the values by chance."""
    return measure(np.random.default_rng(0).standard_normal((RANDOM_KERNELS, size, size)))


@cache
def templates(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Identity, low-pass and high-pass, k^2 entries each, of norm 1.

    Identity: 1 in the centre. Low-pass: the binomial b b^T, b = (1 2 1) of 3, (1 4 6 4 1) of 5, (1 1) of 2. High-pass: the
    identity minus the low-pass of sum 1, what the low-pass takes away. An even k has no centre: the first and the third are
    NaN there.
    """
    smooth = np.outer(_binomial(size), _binomial(size)).ravel()
    identity = np.eye(1, size**2, size**2 // 2)[0] if size % 2 else np.full(size**2, np.nan)
    return tuple(kernel / np.linalg.norm(kernel) for kernel in (identity, smooth, identity - smooth / smooth.sum()))


@cache
def edges(size: int) -> tuple[np.ndarray, np.ndarray]:
    """First derivatives to the right and upwards, k^2 entries each, of norm 1: for 3 and 5 Sobel's.

    d = (b of k - 1) * (-1 1) along, b across. They are orthogonal, so that cos t right + sin t up is the edge in direction
    t, of norm 1, and a kernel's largest cosine with any of them is the length of its projection on the two.
    """
    right = np.outer(_binomial(size), np.convolve(_binomial(size - 1), [-1, 1]))
    right = right / np.linalg.norm(right)
    return right.ravel(), np.rot90(right).ravel()


def _binomial(length: int) -> np.ndarray:
    return np.array([math.comb(length - 1, place) for place in range(length)], float)
