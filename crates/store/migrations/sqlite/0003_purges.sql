-- What was named is in `details` as counts, ids and digests, never as it was given.
CREATE TABLE purges (
    id TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    finished_at INTEGER,
    details TEXT NOT NULL
) STRICT;
CREATE INDEX purges_by_key ON purges (key, id);
CREATE INDEX purges_unfinished ON purges (id) WHERE finished_at IS NULL;

-- Blobs that a purge took the rows' names from and that are still to be removed.
CREATE TABLE erasures (
    purge TEXT NOT NULL REFERENCES purges (id),
    sha256 TEXT NOT NULL,
    PRIMARY KEY (purge, sha256)
) STRICT, WITHOUT ROWID;
