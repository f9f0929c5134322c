"""Routes, one file a subject: pages as HTML, `/v1` as JSON. Each reads the request, calls one service, renders the answer."""
