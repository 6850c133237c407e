"""
The management API: keys, and what belongs to them, as routes that are described once, by types.
"""
