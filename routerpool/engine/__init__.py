"""One request carried out: admitted, attempted, answered, recorded."""
