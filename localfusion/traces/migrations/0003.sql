-- HTTP answers that are given again to whoever sends the same idempotency key; `id` and `request` are
-- SHA-256 of caller, route and key, and of the request's body. They go with their trace.
CREATE TABLE reply (
    id TEXT PRIMARY KEY,
    trace INTEGER NOT NULL REFERENCES trace ON DELETE CASCADE,
    request TEXT NOT NULL,
    ended REAL NOT NULL,
    status INTEGER NOT NULL,
    headers TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX reply_trace ON reply (trace);
