"""A machine that is short of something: of space on a disk."""

import contextlib
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
