"""Batches for training loops: which items, made by whom, handed out in which order, and from where a run goes on."""
