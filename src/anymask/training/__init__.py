"""One training set-up for every method."""
