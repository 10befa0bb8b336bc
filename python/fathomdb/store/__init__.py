"""The only package with SQL: connections, the lock, schema and migrations, one file per table family.

What belongs here: statements, and the dataclasses of the rows that they return.
What does not: deciding what should be written (``pipeline``), and threads (``actors``).
"""
