"""Numbers about the runtime: timing, parity, accuracy and the reports that hold them."""
