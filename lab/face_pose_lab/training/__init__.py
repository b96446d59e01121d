"""Training of the networks: rendered heads, data sets, losses. Nothing else imports it."""
