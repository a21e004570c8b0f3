"""Numbers: how much is found, how precisely, and of which group."""
