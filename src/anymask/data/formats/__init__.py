"""Writers of results, each of which leaves either a whole file or none."""
