"""
One exchange, from the client's head to the last byte: ``exchange`` tells the story, the others are its steps.
"""
