"""Restricted Boltzmann machines, trained by contrastive divergence."""

from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError, check_seed
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NotFiniteError
from jaxopt_cards.layers import MLP
from jaxopt_cards.layers.noisy import Noisy
from jaxopt_cards.training import epoch_program
from jaxopt_cards.training.outcome import told
from jaxopt_cards.training.progress import Reporter
from jaxopt_cards.training.settings import check_batch_size
from jaxopt_cards.transfer.pretraining import (
    Pretrained,
    checked_depth,
    checked_inputs,
    greedily,
    hidden,
)


@declare
def pretrain_rbm(
    model: MLP,
    tx: optax.GradientTransformation,
    x: Any,
    *,
    k: Annotated[int, "[1, inf)"] = 1,
    upto: int | None = None,
    epochs: Annotated[int, "[1, inf)"] = 10,
    batch_size: Annotated[int, "[1, inf)"] = 100,
    seed: int = 0,
    progress: bool = True,
) -> Pretrained:
    r"""Pretrains hidden layers without labels, as a stack of restricted Boltzmann machines.

    Each layer is trained as the hidden units of a binary machine, by contrastive divergence: `k`
    steps of Gibbs sampling start from the data, then the free energy is lowered at the data and
    raised at the samples. The probabilities of the hidden units are the data of the next layer. The
    weights start anew with standard deviation 0.01, and the visible biases at the log odds of the
    data. The layers suit networks with logistic activation; for others they are only an
    initialisation. The given model is not changed.

    Equation:
        .. math::
            F(v) &= -v \cdot a - \sum_j \log\bigl(1 + e^{(v W + b)_j}\bigr) \\
            h^{(i)} &\sim \mathrm{Bernoulli}(\sigma(v^{(i)} W + b)), \qquad
                v^{(i+1)} \sim \mathrm{Bernoulli}(\sigma(h^{(i)} W^\top + a)) \\
            g &= \nabla F(v^{(0)}) - \nabla F(v^{(k)})

        with :math:`v^{(0)}` the data, :math:`\sigma` the logistic function, :math:`W, b` kernel and
        bias of the layer, :math:`a` the visible biases, which are discarded.

    Args:
        model: a `layers.MLP` without batch normalisation.
        tx: any gradient transformation; each layer starts with a new state. The parameters are
            `kernel`, `hidden_bias` and `visible_bias`. Hinton's guide: `momentum(0.1)`, with
            momentum raised from 0.5 to 0.9, and decay of 2e-4 for the kernel only.
        x: inputs in [0, 1], used as probabilities, shape (n, features).
        k: steps of the Markov chain. Hinton's 1; more steps approximate the gradient of the
            likelihood better.
        upto: int in [1, inf); the last hidden layer to pretrain. Default: all.
        epochs: number of epochs for each layer. Hinton and Salakhutdinov's 10.
        batch_size: examples per batch, at most n.
        seed: int in [0, inf); seed of weights, order and chains.
        progress: as in `training.fit`. The training loss is the free energy of the data minus
            that of the samples, the validation loss is the reconstruction error.

    Returns:
        A `Pretrained`: `model`, a copy with pretrained hidden layers, and `losses`, for each layer
        an array of the mean squared error of reconstruction after each epoch.

    State:
        During training, that of `training.fit` for one machine.

    Raises:
        ValueError: the model is not an MLP with hidden layers and biases; `x` is empty, outside
            [0, 1] or has another width; a number is outside its range.
        FloatingPointError: a reconstruction error or a free energy is not finite.

    References:
        Geoffrey Hinton (2002), Training Products of Experts by Minimizing Contrastive Divergence.
        Geoffrey Hinton, Simon Osindero, Yee-Whye Teh (2006), A Fast Learning Algorithm for Deep
        Belief Nets. Geoffrey Hinton (2010), A Practical Guide to Training Restricted Boltzmann
        Machines. Géron (2017), chapter 11, "Unsupervised Pretraining".

    Use when: inputs are near 0 or 1, activations are logistic, and there are few labels.
    Avoid when: activations are ELU or ReLU; `pretrain_autoencoder` trains with these.

    Example:
        >>> import jaxopt_cards as jc
        >>> from flax import nnx
        >>> from jaxopt_cards import data, layers, transfer
        >>> model = layers.MLP(64, 10, (30, 20), "logistic", rngs=nnx.Rngs(0))
        >>> rising = jc.schedules.momentum_warmup(0.5, 0.9, transition_steps=50)
        >>> tx = jc.chain(
        ...     jc.add_decayed_weights(2e-4, mask=lambda params: jc.select(params, "kernel")),
        ...     jc.momentum(0.1, rising),
        ... )
        >>> model, losses = transfer.pretrain_rbm(
        ...     model, tx, data.digits().train.x, batch_size=20, progress=False
        ... )
        >>> [bool(loss[-1] < loss[0]) for loss in losses]
        [True, True]
    """
    upto = checked_depth(model, upto)
    check_seed("seed", seed)
    if hidden(model, 1).bias is None:
        raise HyperparameterError("model", "have no batch normalisation", model)
    x = checked_inputs(model, x)
    if x.min() < 0 or x.max() > 1:
        got = (float(x.min()), float(x.max()))
        raise HyperparameterError("x", "lie in [0, 1]", got)
    check_batch_size(batch_size, len(x))
    rngs = nnx.Rngs(seed)

    def train_layer(model: MLP, index: int, inputs: jax.Array) -> tuple[nnx.Module, np.ndarray]:
        rbm = RBM(inputs, hidden(model, index).out_features, k, rngs=rngs)
        return _trained(rbm, tx, inputs, batch_size, epochs, seed, progress)

    return greedily(model, x, upto, train_layer, _copy_layer)


def _trained(
    rbm: nnx.Module,
    tx: optax.GradientTransformation,
    x: jax.Array,
    batch_size: int,
    epochs: int,
    seed: int,
    progress: bool,
) -> tuple[nnx.Module, np.ndarray]:
    """The machine after the last epoch, in eval mode, and its error after each epoch.

    Not with `fit`, which keeps the epoch with the least error: the reconstruction error may rise at
    first, although the likelihood rises too.
    """
    examples = epoch_program.Data(x, jnp.zeros(len(x), jnp.int32))
    program, arrays, frozen = epoch_program.prepared(
        rbm, nnx.Param, _as_it_is, batch_size, epoch_program.Options()
    )
    # Copies, since the compiled epoch donates its arguments.
    run = jax.tree.map(jnp.copy, epoch_program.first_run(program, arrays, tx))
    errors = []
    with Reporter(epochs, shown=progress) as reporter:
        for epoch in range(1, epochs + 1):
            run, measured = epoch_program.compiled_epoch()(
                program, tx, run, frozen, examples, examples, jax.random.key(seed)
            )
            losses = np.asarray(measured.losses, float).tolist()
            reporter.epoch(epoch, *losses)
            errors.append(losses[1])
            if not np.isfinite(losses[:2]).all():
                trouble = told(measured, epoch, arrays.params)
                raise NotFiniteError(trouble)
    return epoch_program.merge(program.eval_graph, run.model, frozen), np.array(errors)


class RBM(Noisy):
    """A restricted Boltzmann machine that returns its own loss.

    In training mode, the output for each example is a number whose gradient is that of contrastive
    divergence. In eval mode it is the reconstruction error, since the likelihood is intractable.
    """

    def __init__(self, x: jax.Array, units: int, k: int, *, rngs: nnx.Rngs):
        """Initialises the weights for these data as in Hinton's guide."""
        super().__init__(rngs)
        # Counts one more zero and one, since some pixels are always zero.
        share = (jnp.sum(x, axis=0) + 1) / (len(x) + 2)
        weights = 0.01 * jax.random.normal(rngs.params(), (x.shape[1], units), x.dtype)
        self.kernel = nnx.Param(weights)
        self.visible_bias = nnx.Param(jnp.log(share) - jnp.log1p(-share))
        self.hidden_bias = nnx.Param(jnp.zeros(units, x.dtype))
        self.k = k

    def __call__(self, v: jax.Array) -> jax.Array:
        """One number per example."""
        key = self.next_key()
        if key is None:
            return jnp.mean((v - self.below(self.features(v, 1))) ** 2, axis=-1)
        end = jax.lax.stop_gradient(self.chain(key, v))
        return self.free_energy(v) - self.free_energy(end)

    def features(self, v: jax.Array, upto: int) -> jax.Array:
        """The probabilities of the hidden units; the input if `upto` is 0."""
        return jax.nn.sigmoid(self._input(v)) if upto else v

    def below(self, h: jax.Array) -> jax.Array:
        """The probabilities of the visible units."""
        return jax.nn.sigmoid(h @ self.kernel[...].T + self.visible_bias[...][None])

    def chain(self, key: jax.Array, v: jax.Array) -> jax.Array:
        """The visible units after `k` steps of Gibbs sampling."""

        def step(v: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
            up, down = jax.random.split(key)
            h = _drawn(up, self.features(v, 1))
            return _drawn(down, self.below(h)), None

        return jax.lax.scan(step, v, jax.random.split(key, self.k))[0]

    def free_energy(self, v: jax.Array) -> jax.Array:
        """Minus the logarithm of the sum over all hidden states, for each example."""
        visible = v @ self.visible_bias[...]
        return -visible - jnp.sum(jax.nn.softplus(self._input(v)), axis=-1)

    def _input(self, v: jax.Array) -> jax.Array:
        return v @ self.kernel[...] + self.hidden_bias[...][None]


def _drawn(key: jax.Array, probabilities: jax.Array) -> jax.Array:
    """Zeros and ones."""
    return jax.random.bernoulli(key, probabilities).astype(probabilities.dtype)


def _as_it_is(outputs: jax.Array, _: jax.Array) -> jax.Array:
    return outputs


def _copy_layer(rbm: Any, model: MLP, index: int) -> None:
    """Copies the weights of the machine into the model."""
    layer = hidden(model, index)
    for name, learnt in (("kernel", rbm.kernel), ("bias", rbm.hidden_bias)):
        getattr(layer, name)[...] = np.asarray(learnt[...], layer.param_dtype)
