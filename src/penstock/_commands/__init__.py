"""Subcommands of `penstock`, one a module, with a function `add` that says how it is called."""
