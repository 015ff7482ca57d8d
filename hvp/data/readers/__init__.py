"""Readers: one file per raw layout."""
