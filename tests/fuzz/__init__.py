"""A fuzzer of all that reads files: `python -m tests.fuzz --minutes 10`.

`readers` is the table of what is read, `mutations` changes valid files, `hostile` writes files that
a stranger might send, and `worker` reads both in a process with limits.
"""
