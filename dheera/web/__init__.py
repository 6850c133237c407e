"""
The URL tree: ``root`` shows it on one screen, the other modules mirror its branches.
"""
