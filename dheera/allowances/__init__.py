"""
What a call may take: held for it in the store before it goes upstream, given back when it is over.
Four kinds of limits, one mechanism.
"""
