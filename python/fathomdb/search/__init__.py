"""Search: words, vectors, and both; filters applied before the cut; what could not be seen is said.

What belongs here: ranking, fusing, filters and results. What does not: embedding a query
(``actors/model.py``) and the statements of one table family (``store``).
"""
