"""Embedders: the protocol, the registry of plugins (entry points), one file per plugin.

What belongs here: turning texts into arrays, and naming the model that does it.
What does not: when to embed, checking what comes back (``pipeline``), threads (``actors``).
"""
