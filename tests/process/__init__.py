"""
The real daemon as processes, talked to by real clients.
"""
