"""
``/key/...``: virtual keys.
"""
