"""Real servers in processes of their own: Prefect, Dask and PostgreSQL, gone after the test."""
