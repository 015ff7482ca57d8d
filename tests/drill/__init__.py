"""Drill: kill a small pipeline at random moments and damage every kind of file the product reads.

    python -m tests.drill --seed 0 --kills 12 --faults 40

Prints a table; the exit status is 1 where something went wrong without a word (silent), ended in a
traceback or never (raw), or took finished work along (lost).
"""
