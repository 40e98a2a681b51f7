"""Steps of the schema, in order; `Store.open` takes them."""
