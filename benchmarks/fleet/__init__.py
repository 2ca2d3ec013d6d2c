"""Several workers: speed, spread, and what a restart costs."""
