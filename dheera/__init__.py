"""
dheera: a daemon that a team puts in front of the Mistral API.
"""

__version__ = "0.1.0"
