"""A small task for the tests of the trainer."""

import numpy as np

from jaxopt_cards import data


def blobs(n, seed):
    """Three classes around three corners."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n).astype(np.int32)
    x = np.eye(3, 6)[y] * 2 + rng.normal(size=(n, 6))
    return data.Examples(x.astype(np.float32), y)


TRAIN, VALID = blobs(150, 0), blobs(60, 1)
