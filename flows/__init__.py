"""Prefect flows: one file a product, a few lines each."""
