"""A machine that is short of something."""

import contextlib
import resource


@contextlib.contextmanager
def no_file_longer_than(size):
    """The system refuses to write more, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
