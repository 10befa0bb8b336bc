"""Ingest: files, tables and any iterable of records become nodes, in bounded memory.

What belongs here: reading formats (one file each), and how a record becomes a node. What does not:
checking and storing nodes (``pipeline``) and showing progress (``cli``).
"""
