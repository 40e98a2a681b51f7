"""Reading and writing devices. Knows registers, not sites."""
