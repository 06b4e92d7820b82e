"""Around any transformation."""
