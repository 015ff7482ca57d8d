"""Hierarchical long-term video prediction (Lee et al., ICLR 2021): label maps first, then RGB."""

__version__ = "0.1.0"
