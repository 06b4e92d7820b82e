"""Stacked denoising autoencoders."""

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxopt_cards.core.checks import check_seed
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.layers import MLP
from jaxopt_cards.training import fit
from jaxopt_cards.training.settings import Loss
from jaxopt_cards.transfer.mlp_parts import parts_of
from jaxopt_cards.transfer.pretraining import (
    Pretrained,
    checked_depth,
    checked_inputs,
    greedily,
    hidden,
)


def squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """The mean squared error of each example."""
    return jnp.mean((outputs - targets) ** 2, axis=-1)


@declare
def pretrain_autoencoder(
    model: MLP,
    tx: optax.GradientTransformation,
    x: Any,
    *,
    noise: Annotated[float, "[0, 1)"] = 0.25,
    upto: int | None = None,
    epochs: int = 20,
    batch_size: int = 100,
    seed: int = 0,
    loss: Loss = squared_error,
    progress: bool = True,
) -> Pretrained:
    r"""Pretrains hidden layers without labels, as a stack of denoising autoencoders.

    The layers are trained one by one, the lowest first. Each gets a temporary linear decoder, and
    learns to reconstruct its input, of which a fraction was set to zero. The layers below are
    frozen; their outputs, without noise, are computed once. The model's dropout and DropConnect are
    not applied; its batch normalisation is trained. The given model is not changed.

    Equation:
        .. math:: \min_{W, b, W', b'}\ \mathrm{E}\,
            \ell\bigl(\phi((m \odot h) W + b)\, W' + b',\ h\bigr), \qquad
            m_i \sim \mathrm{Bernoulli}(1 - p)

        with :math:`h` the output of the layer below, :math:`\phi` the activation, :math:`\ell` =
        `loss`, :math:`p` = `noise`.

    Args:
        model: a `layers.MLP`.
        tx: any gradient transformation, such as `adam(1e-3)`; each layer starts with a new state.
        x: inputs, shape (n, features).
        noise: fraction of inputs set to zero. The paper tries 0.1, 0.25 and 0.4; 0 is a plain
            autoencoder.
        upto: int in [1, inf); the last hidden layer to pretrain. Default: all.
        epochs: int in [1, inf); number of epochs for each layer. The best by
            the loss without noise is kept.
        batch_size: int in [1, inf), at most n; examples per batch.
        seed: int in [0, inf); seed of decoders, order and noise.
        loss: function `loss(outputs, inputs)` that returns one number per example.
            Default: mean squared error.
        progress: as in `training.fit`.

    Returns:
        A `Pretrained`: `model`, a copy with pretrained hidden layers, and `losses`, for each layer
        an array of the loss without noise after each epoch.

    State:
        During training, that of `training.fit` for one layer and its decoder.

    Raises:
        ValueError: the model is not an MLP with hidden layers; `x` is empty, not finite or has
            another width; a number is outside its range.
        FloatingPointError: the loss was never finite.

    References:
        Pascal Vincent et al. (2010), Stacked Denoising Autoencoders. Yoshua Bengio et al. (2007),
        Greedy Layer-Wise Training of Deep Networks. Géron (2017), chapter 11, "Unsupervised
        Pretraining".

    Use when: there are few labels, many inputs, and no trained network.
    Avoid when: there are many labels; modern initialisation and optimizers need no pretraining.

    Example:
        >>> import jaxopt_cards as jc
        >>> from flax import nnx
        >>> from jaxopt_cards import data, layers, transfer
        >>> model = layers.MLP(64, 10, units=(30, 20), rngs=nnx.Rngs(0))
        >>> model, losses = transfer.pretrain_autoencoder(
        ...     model, jc.adam(1e-3), data.digits().train.x, epochs=3, progress=False
        ... )
        >>> [bool(loss[-1] < loss[0]) for loss in losses]
        [True, True]
    """
    upto = checked_depth(model, upto)
    check_seed("seed", seed)
    x = checked_inputs(model, x)
    rngs, mask = nnx.Rngs(seed), Masking(float(noise))

    def train_layer(model: MLP, index: int, inputs: jax.Array) -> tuple[nnx.Module, np.ndarray]:
        result = fit(
            _autoencoder(model, index, rngs),
            tx,
            train=(inputs, inputs),
            valid=(inputs, inputs),
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
            loss=loss,
            augment=mask,
            progress=progress,
        )
        return result.model, result.history.valid_loss

    return greedily(model, x, upto, train_layer, _copy_layer)


@dataclasses.dataclass(frozen=True)
class Masking:
    """Sets a fraction of the inputs to zero; a class, so that equal rates share a program."""

    rate: float

    def __call__(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """Returns the masked inputs."""
        return jnp.where(jax.random.bernoulli(key, 1 - self.rate, x.shape), x, jnp.zeros_like(x))


def _autoencoder(model: MLP, index: int, rngs: nnx.Rngs) -> MLP:
    """A network of this hidden layer, with the decoder as its output layer."""
    layer = hidden(model, index)
    width = layer.in_features
    one = MLP(width, width, (layer.out_features,), model.activation, rngs=rngs)
    one.batch_norm = model.batch_norm
    for end, part in parts_of(model, index).items():
        setattr(one, f"hidden1{end}", nnx.clone(part))
    return one


def _copy_layer(one: Any, model: MLP, index: int) -> None:
    """Copies the trained layer into the model."""
    for end, part in parts_of(model, index).items():
        learnt = nnx.state(parts_of(one, 1)[end], nnx.Any(nnx.Param, nnx.BatchStat))
        nnx.update(part, learnt)
