"""``python -m anymask``."""

from anymask.cli import main

main()
