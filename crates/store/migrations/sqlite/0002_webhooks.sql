ALTER TABLE jobs ADD COLUMN webhook TEXT;

-- Ends of jobs that are to be told. A row goes once it was delivered; one that was given up stays as long as its job.
CREATE TABLE webhooks (
    job TEXT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    state TEXT NOT NULL,
    webhook TEXT NOT NULL,
    ended_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    reason TEXT,
    given_up_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX webhooks_by_due ON webhooks (due_at) WHERE given_up_at IS NULL;
