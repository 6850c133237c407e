"""
How fast and how small dheera is, beside other proxies in the same run: `python -m bench`.

Nothing here is part of the daemon, and the daemon knows nothing of it.
"""
