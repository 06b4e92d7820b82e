"""A harsh environment: nothing is promoted, broadcast in rank, or warned about silently."""

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture
def x64():
    """64-bit types, for comparisons at 1e-12."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_end_with_their_module():
    """A process may map so many pieces of code, and each compiled program is some of them."""
    yield
    jax.clear_caches()
