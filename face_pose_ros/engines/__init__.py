"""How the networks run: OpenVINO on a CPU, torch anywhere."""
