"""Dataset readers, one file per raw layout."""
