"""Jobs made by many processes, here or on a Ray cluster."""
