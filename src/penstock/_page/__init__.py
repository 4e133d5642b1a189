"""The page of a job: one HTML file with everything in it, made from the record, the ledger and the results."""
