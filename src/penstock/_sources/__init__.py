"""Where items come from: folders, globs, lists of paths, tables, and any iterable."""

from penstock._sources.duplicates import check_duplicates
from penstock._sources.files import FolderSource, GlobSource
from penstock._sources.iterables import IterableSource, Limited
from penstock._sources.opening import open_source
from penstock._sources.paths import PathsSource, read_paths
from penstock._sources.tables import TableSource

__all__ = [
    "FolderSource",
    "GlobSource",
    "IterableSource",
    "Limited",
    "PathsSource",
    "TableSource",
    "check_duplicates",
    "open_source",
    "read_paths",
]
