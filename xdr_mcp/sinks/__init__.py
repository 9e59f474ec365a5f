"""Where changes are delivered, durably and in order. The first is the archive of JSON files."""
