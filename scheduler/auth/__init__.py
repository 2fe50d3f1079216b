"""Who may do what: principals from the socket's peer, one table from permission to roles."""
