"""
The directory in PostgreSQL, by txpostgres: imported only where ``DATABASE_URL`` names it.
"""
