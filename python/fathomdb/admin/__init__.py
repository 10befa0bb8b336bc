"""Admin: profiles and indexes, drains and rebuilds, looking inside, checking, exporting.

What belongs here: one concern a file, as functions of the runtime. What does not: SQL (``store``)
and threads (``actors``).
"""
