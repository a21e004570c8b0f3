"""Runs. A recipe is a Python function that returns a :class:`anymask.training.recipe.Recipe`."""
