"""Definitions of networks, for training and for engines that run torch."""
