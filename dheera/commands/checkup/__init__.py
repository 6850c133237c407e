"""
What ``dheera_ai doctor`` looks at. It changes nothing: no row is written, and the one file that it makes it takes away.
"""
