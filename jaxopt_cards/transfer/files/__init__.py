"""Readers of foreign files. Nothing in a file is executed, and nothing is believed."""
