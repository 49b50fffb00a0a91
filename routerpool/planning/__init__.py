"""Who answers, and why: nothing here talks to a provider."""
