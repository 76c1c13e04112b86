"""Do candidates agree? The answer proper out of a text, and the count of equal ones. Pure."""
