"""Face Mesh V2, a teacher: others' weights, 256 px, good at faces from about the front."""
