"""
Several processes that serve as one: a small one that opens the doors and watches over the others, its workers.
"""
