"""A second, naive reading of the product's rules, and traces that try to tell the two apart."""
