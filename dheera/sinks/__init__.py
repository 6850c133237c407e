"""
Where records go; all sinks pass one suite.
"""
