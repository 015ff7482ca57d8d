"""Raw datasets to clips: readers, the packed clip store, Lightning data modules."""
