"""Where results go: a folder of JSON, JSON lines, Parquet, SQLite; and the ledger of what is done."""

from penstock._sinks.opening import open_sink

__all__ = ["open_sink"]
