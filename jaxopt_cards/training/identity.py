"""The identity of a checkpoint's run, part by part, so that errors can name what differs."""

import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_cards.core.paths import listed
from jaxopt_cards.storage.arrays import checksum, differences
from jaxopt_cards.storage.environment import LIBRARIES, environment
from jaxopt_cards.training import by_steps, epoch_program, points

WHOLE = "the epoch as a whole"
_NOTED = {"programs", "environment"}  # not compared as a whole


def identity(
    program: epoch_program.Program,
    tx: optax.GradientTransformation,
    run: epoch_program.Run,
    inputs: tuple,
    examples: tuple[epoch_program.Data, epoch_program.Data],
    start: tuple[epoch_program.Arrays, Any],
    seed: int,
) -> dict[str, Any]:
    """Numbers and checksums of each part, by its name; `inputs` are those of an epoch."""
    frozen, *_ = inputs
    train, valid = examples
    mesh = getattr(program.batch_sharding, "mesh", None)
    devices = {"devices": "one" if mesh is None else str(dict(mesh.shape))}
    every = {"evaluate_every": program.evaluate_every} if program.evaluate_every else {}
    return every | {
        "seed": int(seed),
        "batch size": program.batch_size,
        "training data (CRC-32)": checksum(train),
        "validation data (CRC-32)": checksum(valid),
        "frozen parameters (CRC-32)": checksum(frozen),
        "initial model (CRC-32)": checksum(start),
        # Also what the optimizer starts with by itself, such as a learning rate in its state.
        "initial state of the optimizer (CRC-32)": checksum(run.opt_state),
        "programs": _programs(program, tx, run, inputs),
        "environment": environment(epoch_program.compiler_options()) | devices,
    }


def unlike(saved: dict[str, Any], now: dict[str, Any]) -> tuple[list[str], str]:
    """The differences that make the saved run another run, and a warning about all others."""
    plain, saved_plain = ({k: v for k, v in of.items() if k not in _NOTED} for of in (now, saved))
    if "environment" not in saved:
        known = {key: value for key, value in saved_plain.items() if not key.startswith("program")}
        differing = differences(known, {key: plain.get(key) for key in known})
        return differing, (
            "was written by an earlier version, which did not record the environment: threads, "
            "devices, compiler options and versions cannot be compared, nor can the settings of"
            " model, optimizer and loss, so the results may not be bit-identical"
        )
    then, here = saved["environment"], now["environment"]
    differing = differences(saved_plain, plain)
    notes = differences(then, here)
    if not notes:
        return differing + _other_programs(saved, now, whole=not differing), ""
    comparable = all(then.get(key) == here.get(key) for key in (*LIBRARIES, "platform"))
    if comparable:
        differing += _other_programs(saved, now, whole=False)
    text = (
        f"was written in another environment:{listed(notes)}\n"
        "Training goes on, but the last bits may differ from those of a run without interruption."
    )
    if not comparable:
        text += " Whether model, optimizer and loss have the same settings cannot be compared."
    return differing, text


def _other_programs(saved: dict[str, Any], now: dict[str, Any], *, whole: bool) -> list[str]:
    """The parts whose programs differ; the whole epoch only if no part explains it."""
    then, here = saved["programs"], now["programs"]
    # An earlier version had fewer parts; the checksum of a part that is not there is 0.
    parts = [key for key in here if then.get(key, 0) != here[key]]
    if found := [key for key in parts if key != WHOLE]:
        return [f"{key}: another one, or with other settings" for key in found]
    text = f"{WHOLE}: its program is another one, though model, loss and optimizer are the same"
    return [text] if parts and whole else []


def _programs(
    program: epoch_program.Program,
    tx: optax.GradientTransformation,
    run: epoch_program.Run,
    inputs: tuple,
) -> dict[str, int]:
    """Checksums of the text of each part of the program, which has the settings in it."""
    # Traced with shapes only: restored arrays are committed to a device, which would appear in the
    # program.
    run, inputs = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (run, inputs)
    )
    frozen, train, _, key, *_ = inputs
    x, y = (jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype) for a in train[:2])
    arrays, params = run.model, run.model.params

    def trained(arrays: epoch_program.Arrays, frozen: Any, x: Any) -> Any:
        model = epoch_program.merge(program.train_graph, arrays, frozen)
        return model(x), epoch_program.split(model, program.trainable)[1].variables

    def evaluated(arrays: epoch_program.Arrays, frozen: Any, x: Any) -> Any:
        return epoch_program.merge(program.eval_graph, arrays, frozen)(x)

    def updated(params: Any, state: Any) -> Any:
        told = points.told(_of_any_kind, params, state, jnp.zeros(()), params)
        return optax.with_extra_args_support(tx).update(params, state, params, **told)

    outputs = jax.eval_shape(evaluated, arrays, frozen, x)
    epoch = by_steps.compiled_epoch(program).lower(program, tx, run, *inputs)
    parts = {
        "model": _text(trained, arrays, frozen, x) + _text(evaluated, arrays, frozen, x),
        "loss": _text(program.loss, outputs, y),
        "optimizer": _text(updated, params, run.opt_state),
        "regularizer": _text(program.regularizer, params),
        "augment": _text(program.augment, key, x),
        "evaluated": _text(program.evaluated, params, run.opt_state),
        "plateau": _text(program.plateau and _scaled(program.plateau), *run.plateau),
        WHOLE: epoch.as_text(),
    }
    return {name: zlib.crc32(text.encode()) for name, text in parts.items()}


def _of_any_kind(params: Any) -> jax.Array:
    """A loss for line searches, which measure it at other points."""
    return optax.tree.norm(params, squared=True)


def _scaled(plateau: Any) -> Callable[..., Any]:
    """What a plateau makes of its factor and its state."""
    return lambda factor, state: plateau.update(factor, state, value=jnp.zeros((), jnp.float32))


def _text(function: Callable[..., Any] | None, *arguments: Any) -> str:
    """The program of a function; empty where there is none, or where it cannot stand alone."""
    if function is None:
        return ""
    try:
        # Under a fixed name, since the program contains the name of the function.
        return jax.jit(lambda *given: function(*given)).lower(*arguments).as_text()
    except (TypeError, ValueError):
        return ""  # what differs there is found in the epoch as a whole
