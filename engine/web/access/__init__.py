"""Who may use the HTTP interface: tokens, sessions, roles, the page to sign in on. Read `access.gate`, then `access.roles`."""
