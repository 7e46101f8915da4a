"""Files of dictionaries: one module a format, none of which unpickles anything."""
