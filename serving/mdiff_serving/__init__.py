"""The bundled model repository, and a launcher for a real tritonserver."""
