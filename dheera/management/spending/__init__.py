"""
``/spend/...`` and its kin: what was spent, by whom and on what.
"""
