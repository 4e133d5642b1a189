"""The engine: moves parcels of items through stages of worker threads. It knows callables and positions alone."""
