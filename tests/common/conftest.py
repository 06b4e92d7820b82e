"""Hundreds of small programs: compiled without the optimizations that nothing here needs."""

import pytest


@pytest.fixture(autouse=True)
def _compiled_quickly(quick_compilation):
    pass
