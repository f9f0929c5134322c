"""One way to work through many photographs: walker, folder, resume, sinks, engines."""
