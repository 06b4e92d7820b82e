"""What is kept on disk by this package: locks, arrays, and the environment they came from."""
