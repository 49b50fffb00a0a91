"""The way to a provider: what is known of it, how it is asked, and what its failures mean."""
