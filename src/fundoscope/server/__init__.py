"""The reading room: where photographs come in, are judged, read and signed. No torch.

A request goes this way, and each layer knows only the one below it:

    serving      what must hold before the room listens
    app          the ASGI application: middleware, pages, REST, error pages
    security/    the gate that every request passes: who calls, from where, how often
    routes/      thin: read the request, call one service, render the answer        (pages and /v1)
    services/    transactions: what may happen to infants, exams, photographs, readings; every one takes a `Caller`
    models/      tables (SQLAlchemy), one file a subject
    database     one engine a database; SQLite or PostgreSQL; migrations

Work that takes time waits in the table `jobs`, written in the same transaction as what it is about, and is done by `worker` in a
child process. Who may do what stands in `permissions`, what was done in the audit log (`services.audit`).
"""
