"""The way of one write, one file per stage: prepare, write, claim, verify, embed, validate, apply, outcome.

What belongs here: what a stage decides, as functions of its input. What does not: threads
(``actors``) and SQL (``store``): a stage that runs in a transaction is handed one.
"""
