"""What the user wrote: YAML to frozen values, and everything that is wrong with it in one list."""
