"""A bundle behind HTTP and WebSocket: bodies in memory, a bounded queue, one network call for videos of equal T."""
