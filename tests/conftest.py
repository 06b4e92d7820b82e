"""A harsh environment: nothing is promoted, broadcast in rank, or warned about silently."""

import functools
import tempfile

import jax
import pytest

from jaxopt_cards.training import epoch_program
from tests.limits import older_generator

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_configure(config):
    """Equal programs are compiled once a session: most of the tests' time is compilation.

    Each process has a folder of its own, since JAX may read an entry that another one is writing.
    """
    folder = tempfile.TemporaryDirectory(prefix="compiled-")
    config.add_cleanup(folder.cleanup)
    jax.config.update("jax_compilation_cache_dir", folder.name)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture
def x64():
    """64-bit types, for comparisons at 1e-12."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def quick_compilation(monkeypatch):
    """Most optimizations off, in tests of what is done and not of how fast."""
    jax.config.update("jax_disable_most_optimizations", True)
    if options := older_generator():
        # With XLA's older code generator an epoch compiles in half the time.
        compiled_epoch = functools.cache(epoch_program.compiled_epoch.__wrapped__)
        monkeypatch.setattr(epoch_program, "compiler_options", lambda: options)
        monkeypatch.setattr(epoch_program, "compiled_epoch", compiled_epoch)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_end_with_their_module():
    """A process may map so many pieces of code, and each compiled program is some of them."""
    yield
    jax.clear_caches()
