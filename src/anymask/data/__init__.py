"""Readers of data sets, writers of results, augmentation and the built-in vocabularies."""
