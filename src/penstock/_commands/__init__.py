"""Subcommands of `penstock`, one module each, with a function `add(commands)`."""
