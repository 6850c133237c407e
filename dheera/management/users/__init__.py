"""
``/user/...``: the people who own keys.
"""
