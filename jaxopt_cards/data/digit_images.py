"""The small digits of scikit-learn."""

import numpy as np

from jaxopt_cards.core.declaration import declare
from jaxopt_cards.data.examples import Examples, Splits


@declare
def digits() -> Splits:
    r"""Loads scikit-learn's 1,797 handwritten digits of 8×8 pixels.

    Real handwriting without a download, to use where MNIST is not available. Images 0 to 199 are
    for validation, 200 to 1,296 for training, and the last 500 for testing.

    Equation:
        .. math:: x = \text{pixel} / 16

    Returns:
        `Splits` of `Examples`: `x` float32 of shape (n, 64) in [0, 1], `y` int32 from 0 to 9.


    References:
        Ethem Alpaydin, Cenk Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine
        Learning Repository.

    Use when: trying something out, writing tests, or working without internet.
    Avoid when: results should be compared with the literature; use `mnist`.

    Example:
        >>> from jaxopt_cards import data
        >>> [len(split.y) for split in data.digits()]
        [1097, 200, 500]
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, y = (bunch.data / 16).astype(np.float32), bunch.target.astype(np.int32)
    valid, train, test = (
        Examples(x[rows], y[rows]) for rows in np.split(np.arange(len(y)), [200, 1297])
    )
    return Splits(train, valid, test)
