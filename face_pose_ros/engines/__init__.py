"""How the networks run: OpenVINO on a CPU, graphs on CUDA, torch anywhere."""
