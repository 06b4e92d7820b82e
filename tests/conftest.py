"""A harsh environment: nothing is promoted, broadcast in rank, or warned about silently."""

import functools
import os
import tempfile

import jax
import pytest

from jaxopt_cards.training import epoch_program
from tests.compilation import AS_FOR_USERS, QUICK

# JAX reads them when it first computes. What the user has set comes later, and so counts.
os.environ["XLA_FLAGS"] = f"{QUICK} {os.environ.get('XLA_FLAGS', '')}"
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


@pytest.fixture(scope="module")
def compiled_as_for_users():
    """The trainer's epochs with all optimizations, for comparisons of bits."""
    usual = epoch_program.compiler_options()
    compiled_epoch = functools.cache(epoch_program.compiled_epoch.__wrapped__)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(epoch_program, "compiler_options", lambda: usual | AS_FOR_USERS)
        patched.setattr(epoch_program, "compiled_epoch", compiled_epoch)
        yield


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_end_with_their_module():
    """A process may map so many pieces of code, and each compiled program is some of them."""
    yield
    jax.clear_caches()
