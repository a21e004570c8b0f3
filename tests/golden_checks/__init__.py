"""One module per kind of golden folder: ``matches(folder)`` and ``check(folder)``.

``check`` returns rows (name of an output, largest error, tolerance). ``tests/golden.py`` prints
them, ``tests/test_golden.py`` asserts them.
"""
