"""A machine that is short of something: of space on a disk, or of time to compile."""

import contextlib
import functools
import resource

import jax

SECONDS = "jax_persistent_cache_min_compile_time_secs"


@contextlib.contextmanager
def no_file_longer_than(size):
    """The system refuses to write more, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    seconds = getattr(jax.config, SECONDS)
    jax.config.update(SECONDS, float("inf"))  # no compiled program is written
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        jax.config.update(SECONDS, seconds)


@functools.cache
def older_generator():
    """The options for XLA's older code generator, which compiles faster. JAX 0.12 has none."""
    options = {"xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(lambda: 0).lower().compile(options)
    except jax.errors.JaxRuntimeError:
        return {}
    return options


def older_generator_flag():
    """The same for processes, as `XLA_FLAGS` takes it."""
    return "--xla_cpu_use_fusion_emitters=false" if older_generator() else ""
