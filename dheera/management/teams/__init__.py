"""
``/team/...``: who shares keys, models and limits.
"""
