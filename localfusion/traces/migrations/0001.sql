-- One row for each run, small, for lists; `place` grows with every run and is never used again.
CREATE TABLE trace (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    created REAL NOT NULL,
    request_id TEXT,
    key TEXT NOT NULL,
    preset TEXT NOT NULL,
    policy TEXT NOT NULL,
    members TEXT NOT NULL,
    judge TEXT,
    model TEXT,
    status TEXT NOT NULL,
    reason TEXT,
    question TEXT,
    seconds REAL NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    content TEXT NOT NULL,
    -- 0 while it grows, and until its words can be searched.
    finished INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX trace_unfinished ON trace (place) WHERE NOT finished;
CREATE INDEX trace_created ON trace (created);
CREATE INDEX trace_key ON trace (key);
CREATE INDEX trace_preset ON trace (preset);
CREATE INDEX trace_policy ON trace (policy);
CREATE INDEX trace_model ON trace (model);
CREATE INDEX trace_status ON trace (status);

-- Bodies are JSON, deflated. What was asked, with which settings and versions.
CREATE TABLE head (
    trace INTEGER PRIMARY KEY REFERENCES trace ON DELETE CASCADE,
    body BLOB NOT NULL
) STRICT;

-- Events in the order in which they came, some in each row. Rows of deltas go when the run has
-- completed, for what they joined to is in its last event.
CREATE TABLE event (
    trace INTEGER NOT NULL REFERENCES trace ON DELETE CASCADE,
    place INTEGER NOT NULL,
    is_delta INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (trace, place)
) STRICT;

-- A turn of some conversation, once for all prompts that have it. `kept` characters of another
-- message come before the body's own content: the judge's turns only grow.
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    base INTEGER,
    kept INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- Which traces need a message, as their own or as the base of one.
CREATE TABLE message_use (
    trace INTEGER NOT NULL REFERENCES trace ON DELETE CASCADE,
    message INTEGER NOT NULL REFERENCES message,
    PRIMARY KEY (trace, message)
) STRICT, WITHOUT ROWID;
CREATE INDEX message_use_message ON message_use (message);

-- One row for each call of an engine; `messages` are ids, as a JSON list.
CREATE TABLE call (
    trace INTEGER NOT NULL REFERENCES trace ON DELETE CASCADE,
    place INTEGER NOT NULL,
    messages TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (trace, place)
) STRICT;

-- What is searched: the last question and the answer; rowid is the trace's place. `facets` has a word
-- for each column that a list can be filtered by: a rare one makes a search for common words short.
CREATE VIRTUAL TABLE words USING fts5 (question, answer, facets);

-- Work that is due, also after a restart, and how often it was asked for.
CREATE TABLE due (
    chore TEXT PRIMARY KEY,
    asked INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
