"""Where items come from: folders, globs, lists of paths, tables, any iterable."""
