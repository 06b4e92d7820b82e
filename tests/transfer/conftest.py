"""What several tests of files need."""

import resource
from contextlib import contextmanager

import pytest


@pytest.fixture
def files_of_at_most():
    """A disk that is full after so many bytes of any file: a context."""

    @contextmanager
    def limited(size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
