"""Jobs: their definitions, and the conversion of jobs.toml tables into them."""
