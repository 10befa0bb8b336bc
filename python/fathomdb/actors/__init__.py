"""The only package with threads: the writer, the projector, the embed pool, the rebuilder.

What belongs here: who runs when, mailboxes, waiting and stopping. What does not: what a stage
decides (``pipeline``) and SQL (``store``).
"""
