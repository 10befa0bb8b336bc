"""The main job on real input: tool descriptions in, the right tools found, the result measured.

What belongs here: the program of ``make demo``, as a user of the public API would write it.
What does not: anything of the package itself; it never imports from here.
"""
