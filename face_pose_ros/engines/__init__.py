"""How the networks run: OpenVINO on a CPU, torch on a GPU or anywhere; arrays in, arrays out."""
