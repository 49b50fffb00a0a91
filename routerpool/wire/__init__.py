"""The chat-completions format, both ways: pure functions over bytes and parsed JSON."""
