"""What the site needs beyond Sphinx: formulas without a network, cards and examples as pages."""
