"""Messages to webhooks: sealed secrets, one POST to a checked address, and who brings what waits."""
