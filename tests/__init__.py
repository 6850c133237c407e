"""
The tests. None of them asserts how long something takes, so Hypothesis has no deadline either.
"""

from hypothesis import settings

settings.register_profile("dheera", deadline=None)
settings.load_profile("dheera")
