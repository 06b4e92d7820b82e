"""Checkpoints with Orbax, verified when they are read, and read only into the same run."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self

from jaxopt_cards.core.checks import HyperparameterError, check_count, escaped
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError, NamedOSError, named_as
from jaxopt_cards.core.paths import listed
from jaxopt_cards.core.warnings import warn
from jaxopt_cards.storage.arrays import (
    MOST_METADATA,
    as_json,
    check_same_arrays,
    checksum,
    described,
    differences,
    if_full,
    json_checksum,
    plain_arrays,
    with_keys,
)
from jaxopt_cards.storage.locks import FileLock, InUseError
from jaxopt_cards.training.identity import unlike

PyTree = Any


# Errors that do not mean damage: too many open files, no permission, interrupted.
_PASSING = {errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.EINTR, errno.ENOMEM}


class Checkpointer:
    r"""Writes trees of arrays to a folder, and restores the last undamaged one bit by bit.

    Orbax writes in the background, under a temporary name until the checkpoint is complete, so a
    process that is killed leaves only complete checkpoints. Later damage is found by checksums: a
    damaged checkpoint is named in a warning and set aside, and the one before it is used. Use it in
    a `with` statement, which waits until the last checkpoint is written.

    Args:
        directory: folder of one run; made if it does not exist.
        identity: dictionary that JSON can hold, such as seed and settings. A checkpoint with
            another one is refused. Default: only names, shapes and dtypes of the arrays are
            compared.
        max_to_keep: how many checkpoints to keep; older ones are deleted. Default: 2, so that one
            is left if the last is damaged.

    Returns:
        An object with `save(step, tree, notes)`, `restore(like)`, `wait()` and `close()`.

    State:
        On disk the arrays of `max_to_keep` trees; in memory one more while it is written.

    Raises:
        ValueError: a checkpoint of another run; steps that do not increase; leaves that are not
            arrays.
        OSError: a checkpoint could not be written, none can be read, or another process is using
            the folder.

    References:
        Wesley Peterson et al. (1961), Cyclic Codes for Error Detection. Géron (2017), chapter 11,
        exercise 8: checkpoints at regular intervals.

    Use when: your own training loop must survive interruptions; `fit` has `checkpoints=`.
    Avoid when: arrays lie on several hosts, or you need only a part: see `transfer.restore`.

    Example:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> from jaxopt_cards.training import Checkpointer
        >>> with tempfile.TemporaryDirectory() as folder, Checkpointer(folder) as checkpoints:
        ...     checkpoints.save(1, {"x": jnp.arange(3)}, notes="one")
        ...     checkpoints.restore({"x": jnp.zeros(3, int)})
        (1, {'x': Array([0, 1, 2], dtype=int32)}, 'one')
    """

    _function, _argument = "Checkpointer", "directory"  # as errors call them

    @declare
    def __init__(
        self,
        directory: str | os.PathLike,
        identity: dict | None = None,
        *,
        max_to_keep: Annotated[int, "[1, inf)"] = 2,
    ):
        """Opens the folder; the arguments are described with the class."""
        # Here, not above: it takes longer to import than a small run without checkpoints takes.
        import orbax.checkpoint as ocp

        self._directory = Path(directory).absolute()
        if self._directory.exists() and not self._directory.is_dir():
            raise HyperparameterError(self._argument, "be a folder", str(self._directory))
        self._identity = as_json("identity", identity or {})
        self._args = ocp.args
        self._last: int | None = None  # the step that is being written, or was written last
        self._lock = self._locked()
        try:
            options = ocp.CheckpointManagerOptions(
                max_to_keep=max_to_keep, cleanup_tmp_directories=True
            )
            self._manager = ocp.CheckpointManager(self._directory, options=options)
        except BaseException as error:
            self._lock.release()
            if not isinstance(error, ValueError | TypeError | LookupError | AttributeError):
                raise
            # Orbax reads `_CHECKPOINT_METADATA` of all checkpoints; its error does not say which.
            raise NamedOSError(
                f"the checkpoints in {escaped(self._directory)} cannot be "
                f"listed; is a _CHECKPOINT_METADATA there damaged? {escaped(error, 200)}"
            ) from error

    def __enter__(self) -> Self:
        """For use in a `with` statement."""
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits for pending writes; if the block raised an error, ours becomes a note on it."""
        try:
            self.close()
        except OSError as failure:
            if error is None:
                raise
            error.add_note(str(failure))

    @named_as("Checkpointer")
    def close(self) -> None:
        """Waits for pending writes, and ends Orbax's threads."""
        try:
            self.wait()
        finally:
            try:
                self._manager.close()
            finally:
                self._lock.release()

    @named_as("Checkpointer")
    def wait(self) -> None:
        """Waits for pending writes; raises `OSError` if one failed."""
        with self._writing():
            self._manager.wait_until_finished()

    @named_as("Checkpointer")
    def save(self, step: int, tree: PyTree, notes: Any = None) -> None:
        """Starts writing a tree of arrays and notes for JSON, after the last write is done."""
        arrays = plain_arrays(tree)
        notes = as_json("notes", notes)
        about = {"identity": self._identity, "arrays": described(tree), "notes": notes}
        about["arrays (CRC-32)"] = checksum(arrays)
        self.wait()
        self._check_step(step)
        self._last = int(step)
        with self._writing():
            self._manager.save(
                self._last,
                args=self._args.Composite(
                    run=self._args.StandardSave(arrays),
                    about=self._args.JsonSave({"about": about, "checksum": json_checksum(about)}),
                ),
                force=True,  # otherwise Orbax silently skips some steps
            )

    @named_as("Checkpointer")
    def restore(self, like: PyTree) -> tuple[int, PyTree, Any] | None:
        """The last good checkpoint: step, tree and notes; `None` if none was ever written.

        `like` has the structure, shapes, dtypes and devices that are expected.
        """
        target = plain_arrays(like)
        self.wait()
        damaged: dict[int, str] = {}
        for step in self._steps():
            try:
                about, arrays = self._read(step, target, described(like))
            except _DamagedError as error:
                damaged[step] = f"{step}: {error}"
            else:
                self._set_aside(damaged, step)
                return step, with_keys(arrays, like), about["notes"]
        if damaged:
            raise NamedOSError(
                f"all checkpoints in {escaped(self._directory)} are damaged:"
                f"{listed(damaged.values())}\n"
                "Restore the folder from a backup, or delete it to start from the beginning."
            )
        return None

    def _locked(self) -> FileLock:
        """The folder for this process alone: Orbax would delete what another one is writing."""
        self._directory.mkdir(parents=True, exist_ok=True)
        try:
            return FileLock(self._directory / ".lock")
        except InUseError as error:
            folder = escaped(self._directory)
            raise InUseError(
                f"{self._argument} {folder} {error.message}: give this run a "
                "folder of its own, or wait for the other one to end",
                error.errno,
            ) from None

    def _read(self, step: int, target: dict[str, Any], described: list[str]) -> tuple[dict, dict]:
        """The metadata and the arrays of a checkpoint, both verified by checksums."""
        self._check_metadata(step)
        stored = self._item(step, about=self._args.JsonRestore())
        about = stored.get("about") if isinstance(stored, dict) else None
        if (
            about is None
            or not _is_description(about)
            or json_checksum(about) != stored.get("checksum")
        ):
            raise _DamagedError("its description was changed")
        # Checked first: a checkpoint of another run must be neither read nor set aside.
        self._check_same_run(about, described)
        restored = self._item(step, run=self._args.StandardRestore(target))
        arrays = {path: restored.get(path) for path in target}
        if checksum(arrays) != about["arrays (CRC-32)"]:
            raise _DamagedError("its arrays were changed")
        return about, arrays

    def _check_metadata(self, step: int) -> None:
        """Raises if texts, which are read whole, are longer than any that was written."""
        folder = self._directory / str(step)
        for name in ("_CHECKPOINT_METADATA", "about/metadata", "run/_METADATA", "run/_sharding"):
            file = folder / name
            if file.exists() and file.stat().st_size > MOST_METADATA:
                raise _DamagedError(f"{name} has more than {MOST_METADATA:,} bytes")

    def _item(self, step: int, **item: Any) -> Any:
        """One of the two parts of a checkpoint; damaged files cause various errors in Orbax."""
        (name,) = item
        try:
            return self._manager.restore(step, args=self._args.Composite(**item))[name]
        except MemoryError:
            raise  # says nothing of the file
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _PASSING:
                raise
            reason = escaped(str(error).partition("\n")[0], 200)
            raise _DamagedError(f"{type(error).__name__}: {reason}") from error

    def _steps(self) -> list[int]:
        """The steps in the folder, the last first. Orbax's own list leaves out what is damaged."""
        folders = (path for path in self._directory.iterdir() if path.is_dir())
        return sorted((int(path.name) for path in folders if path.name.isdecimal()), reverse=True)

    def _set_aside(self, damaged: dict[int, str], good: int) -> None:
        """Moves damaged checkpoints away: their steps will be saved again."""
        if not damaged:
            return
        for step in damaged:
            aside = self._directory / f"{step}.damaged"
            shutil.rmtree(aside, ignore_errors=True)
            (self._directory / str(step)).rename(aside)
        self._manager.reload()
        warn(
            f"{self._function}: damaged checkpoints in {escaped(self._directory)}:"
            f"{listed(damaged.values())}\n"
            f"They are kept as STEP.damaged; the one of step {good} is used.",
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns errors while writing into one that says where, and which checkpoint is left."""
        try:
            yield
        except Exception as error:
            good = [step for step in self._steps() if step != self._last]
            left = f"that of step {good[0]} is kept" if good else "there is none before it"
            raise NamedOSError(
                f"the checkpoint of step {self._last} could not be written to "
                f"{escaped(self._directory)}{if_full(error)}; {left}\n{error}"
            ) from error

    def _check_step(self, step: int) -> None:
        check_count("step", step, least=0)
        if (steps := self._steps()) and step <= steps[0]:
            raise HyperparameterError("step", f"be above {steps[0]}, which is saved already", step)

    def _check_same_run(self, about: dict[str, Any], arrays: list[str]) -> None:
        check_same_arrays(about["arrays"], arrays)
        self._refuse(differences(about["identity"], self._identity))

    def _refuse(self, differing: list[str]) -> None:
        if differing:
            raise NamedError(
                f"{self._argument} {escaped(self._directory)} holds another run:"
                f"{listed(differing)}\nGive this run a folder of its own.",
            )


def _is_description(about: Any) -> bool:
    """Whether it has what `save` writes about a checkpoint."""
    kinds = {"identity": dict, "arrays": list, "arrays (CRC-32)": int}
    fits = isinstance(about, dict) and "notes" in about
    return fits and all(isinstance(about.get(name), kind) for name, kind in kinds.items())


class Checkpoints:
    r"""Where `fit` and `fine_tune` keep their checkpoints, and how often they write one.

    If the folder holds a checkpoint of the same run, training goes on from there, and the results
    are bit-identical to those of a run without interruption. Where threads, devices, compiler
    options or versions of JAX, Flax, Optax or this package are not those of the checkpoint, a
    `RuntimeWarning` names what differs. `epochs` and `patience` may differ.

    After SIGTERM, the epoch is finished and saved, and the process exits with status 143
    (`SystemExit`), unless you have set your own handler or this is not the main thread. Before the
    first epoch, while data are checked or the program is compiled, there is nothing to save. A
    damaged checkpoint is set aside with a warning, and the one before it is used.

    Args:
        directory: folder of one run; made if it does not exist.
        every: number of epochs between checkpoints. The last epoch always has one. Each holds the
            best snapshot so far.

    Returns:
        What `checkpoints=` takes; a path alone stands for `Checkpoints(path)`.

    Raises:
        ValueError: `every` is out of range; in `fit`, the folder holds another run.
        OSError: in `fit`, a checkpoint could not be written, in which case the last good one is
            kept, or none of those in the folder can be read.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, exercise 8: checkpoints at regular intervals.

    Use when: a run takes longer than you can afford to lose, or the machine may be taken back.
    Avoid when: a run takes seconds: each checkpoint costs some milliseconds.

    Example:
        >>> from jaxopt_cards import training
        >>> training.Checkpoints("runs/first", every=1).every
        1
    """

    @declare
    def __init__(self, directory: str | os.PathLike, every: Annotated[int, "[1, inf)"] = 5):
        """Opens nothing yet; the arguments are described with the class."""
        if not isinstance(directory, str | os.PathLike):
            raise HyperparameterError("directory", "be a path", directory)
        self.directory, self.every = Path(directory), every

    def part(self, name: str) -> "Checkpoints":
        """The same in a folder inside of this one."""
        return Checkpoints(self.directory / name, self.every)


def as_checkpoints(checkpoints: Any) -> Checkpoints | None:
    """The checkpoints that were given, or those in a folder."""
    if checkpoints is None or isinstance(checkpoints, Checkpoints):
        return checkpoints
    if isinstance(checkpoints, str | os.PathLike):
        return Checkpoints(checkpoints)
    raise HyperparameterError("checkpoints", "be a path or Checkpoints", checkpoints)


class FitCheckpointer(Checkpointer):
    """The checkpoints of `fit`; errors name its argument.

    The identity also has checksums of the parts of the program, and the environment. A checkpoint
    of another environment is not refused, but a warning says that the results may not be
    bit-identical.
    """

    _function, _argument = "fit", "checkpoints"
    _unlike = ""  # differences of the last checkpoint that was tried

    def restore(self, like: PyTree) -> tuple[int, PyTree, Any] | None:
        """As in `Checkpointer`; warns if results may not be bit-identical."""
        restored = super().restore(like)
        if restored and self._unlike:
            warn(f"fit: the checkpoint in {escaped(self._directory)} {self._unlike}")
        return restored

    def _check_same_run(self, about: dict[str, Any], arrays: list[str]) -> None:
        check_same_arrays(about["arrays"], arrays)
        differing, self._unlike = unlike(about["identity"], self._identity)
        self._refuse(differing)


class _DamagedError(Exception):
    """A checkpoint that is not what was written."""
