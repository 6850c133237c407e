"""
The sub-commands of dheera_ai that are clients of the management API. They know nothing of the daemon's configuration.
"""
