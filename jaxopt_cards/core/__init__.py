"""What every transformation is built of: trees, precision, checks, errors and declarations."""
