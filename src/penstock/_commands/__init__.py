"""The subcommands of `penstock`: each a module with `add(commands)`."""
