"""Sentences with a word replaced: an auxiliary task for text."""

from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_cards.core.checks import HyperparameterError, check_count, check_seed
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.data.examples import Examples


@declare
def corrupted_tokens(
    x: Any, vocabulary: Annotated[int, "[2, inf)"], *, padding: int | None = None, seed: int = 0
) -> Examples:
    r"""Makes a corrupted copy of each sentence: good has label 1, corrupted 0.

    In a corrupted sentence one token is replaced by a random other token: "The dog sleeps" becomes
    "The dog they". A network that tells them apart must learn which words go together. Some
    replacements give another good sentence, so no network is right about all of them.

    Equation:
        .. math:: \tilde x_{ij} = w_i \ \text{if}\ j = p_i, \qquad
            \tilde x_{ij} = x_{ij} \ \text{otherwise}, \qquad w_i \ne x_{i p_i}

        with :math:`x_{ij}` token :math:`j` of sentence :math:`i`, :math:`\tilde x` the corrupted
        copy, :math:`p_i` a position and :math:`w_i` a token, both drawn uniformly.

    Args:
        x: token ids: integers from 0 to `vocabulary` - 1, shape (n, length).
        vocabulary: number of different tokens.
        padding: id that fills up short sentences. It is neither replaced nor put in; each sentence
            has another token. Default: there is none.
        seed: int in [0, inf); seed of the positions and of the new tokens.

    Returns:
        `Examples` of twice the length: `x` int32 has the good sentences, then the corrupted ones in
        the same order; `y` int32, 1 for good and 0 for corrupted.

    Raises:
        ValueError: `x` has another shape or is not of integers; a token is outside the vocabulary;
            a sentence is only padding, or there is no token to put in.

    References:
        Ronan Collobert, Jason Weston (2008), A Unified Architecture for Natural Language
        Processing. Géron (2017), chapter 11, "Pretraining on an Auxiliary Task".

    Use when: there are many sentences but few labels.
    Avoid when: a trained language model exists; fine-tune it.

    Example:
        >>> import numpy as np
        >>> from jaxopt_cards import data
        >>> words = np.array(["the", "dog", "cat", "sleeps", "runs", "they"])
        >>> task = data.corrupted_tokens([[0, 1, 3], [0, 2, 4]], len(words))
        >>> [" ".join(words[sentence]) for sentence in task.x[:2]], task.y
        (['the dog sleeps', 'the cat runs'], array([1, 1, 0, 0], dtype=int32))
        >>> (task.x[:2] != task.x[2:]).sum(axis=1)
        array([1, 1])
    """
    check_seed("seed", seed)
    tokens = _checked(x, vocabulary)
    real = np.ones(tokens.shape, bool)
    others = np.arange(vocabulary)
    if padding is not None:
        check_count("padding", padding, least=0)
        real, others = tokens != padding, others[others != padding]
    if len(others) < 2:
        raise HyperparameterError("vocabulary", "have two tokens beside the padding", vocabulary)
    if not real.any(axis=1).all():
        row = int(np.argmin(real.any(axis=1)))
        raise HyperparameterError("x", "have a token beside the padding in each sentence", row)
    where_key, which_key = jax.random.split(jax.random.key(seed))
    noise = jax.random.uniform(where_key, tokens.shape, jnp.float32)
    place = np.arange(len(tokens)), np.where(real, noise, -1.0).argmax(axis=1)
    # Steps around the circle of all tokens, so that the new one is never the old one.
    steps = np.asarray(jax.random.randint(which_key, (len(tokens),), 1, len(others)))
    bad = tokens.copy()
    bad[place] = others[(np.searchsorted(others, tokens[place]) + steps) % len(others)]
    y = np.repeat(np.array([1, 0], np.int32), len(tokens))
    return Examples(np.concatenate([tokens, bad]), y)


def _checked(x: Any, vocabulary: int) -> np.ndarray:
    """The tokens as int32."""
    tokens = np.asarray(x)
    if tokens.ndim != 2 or not tokens.size or not np.issubdtype(tokens.dtype, np.integer):
        got = tokens.shape, tokens.dtype.name
        raise HyperparameterError("x", "be integers of shape (n, length)", got)
    if tokens.min() < 0 or tokens.max() >= vocabulary:
        ends = int(tokens.min()), int(tokens.max())
        raise HyperparameterError("x", f"have tokens from 0 to {vocabulary - 1}", ends)
    return tokens.astype(np.int32)
