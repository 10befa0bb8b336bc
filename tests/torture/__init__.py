"""The crash campaign: a process is killed again and again, and the file must be right every time.

``make torture`` runs it. What belongs here: drawing operations, living and being killed, judging
what is left. What does not: what must hold (``invariants.py``) and what must be there
(``model.py``).
"""
