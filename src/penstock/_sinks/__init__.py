"""Where results go: a folder of JSON, JSON lines, Parquet, SQLite; and the ledger, which knows what is done."""
