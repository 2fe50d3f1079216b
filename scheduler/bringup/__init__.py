"""How a bare machine becomes a node of ours: its start script, the agent's code, the certificate that it trusts."""
