"""Storage on disk: arrays, locks, and a description of the environment."""
