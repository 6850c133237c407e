"""
The durable queue of what happened: files of JSON lines, a cursor for each reader, and what a restart makes of them.
"""
