"""
The directory in an SQLite file: a thread that writes, one that looks up, one that searches; there are no others.
"""
