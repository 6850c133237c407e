"""
What an exchange used, read from its bytes as they pass by. No Twisted, no I/O; nothing here raises into an exchange,
keeps more than a bounded part of it, or reads more or less because the bytes came in other pieces.
"""
