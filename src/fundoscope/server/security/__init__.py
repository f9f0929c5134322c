"""What stands between the network and a route.

gate        the middleware: every request passes it, whatever route it is for
answers     errors as problem+json under `/v1`, as a page elsewhere
hosts       names under which the room may be called, where requests may come from
cookies     the cookie of a session
passwords   argon2
secrets     tokens that cannot be guessed, and the digests that are kept of them
"""
