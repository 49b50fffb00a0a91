"""What is in a request's texts, and who may see it."""
