"""bnncc: a compiler for binary and low-bit neural networks."""

__version__ = "0.1.0"
