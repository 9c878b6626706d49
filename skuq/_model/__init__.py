"""Networks as data: layout and forward pass in NumPy, draws of functions, posteriors; no framework is needed here."""
