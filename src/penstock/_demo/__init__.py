"""The demo: text lines rendered with real fonts, read by real models that were trained on such lines."""
