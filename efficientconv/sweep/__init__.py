"""Trains many runs: one after the other, several at a time, or on a cluster; and searches for settings."""
