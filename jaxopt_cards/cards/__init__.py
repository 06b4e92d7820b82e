"""Cards: what each technique says of itself, in the terminal, on a page and in a picture."""
