"""HTTP: who may call, the routes, and the server as a process."""
