"""Reproduces the paper's tables: the missing runs, their estimated cost, and the results."""
