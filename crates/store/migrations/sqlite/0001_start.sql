CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
INSERT INTO meta VALUES ('revision', 0);

CREATE TABLE files (
    id TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    filename TEXT NOT NULL,
    purpose TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    state TEXT NOT NULL,
    status_details TEXT,
    problems TEXT NOT NULL,
    summary TEXT NOT NULL
) STRICT;
CREATE INDEX files_by_key ON files (key, id);
CREATE INDEX files_by_blob ON files (sha256);
CREATE INDEX files_by_expiry ON files (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    state TEXT NOT NULL,
    model TEXT NOT NULL,
    method TEXT NOT NULL,
    classifier TEXT NOT NULL,
    suffix TEXT,
    training_file TEXT NOT NULL,
    validation_file TEXT,
    seed INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    params_version INTEGER NOT NULL,
    params TEXT NOT NULL,
    progress TEXT,
    error TEXT,
    fine_tuned_model TEXT,
    report TEXT,
    attempt INTEGER NOT NULL DEFAULT 0,
    lost INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    updated_at INTEGER NOT NULL,
    owner TEXT,
    leased_at INTEGER NOT NULL DEFAULT 0,
    lease_ms INTEGER NOT NULL DEFAULT 0,
    queued_at INTEGER NOT NULL,
    not_before INTEGER NOT NULL DEFAULT 0,
    event_count INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX jobs_by_key ON jobs (key, id);
CREATE INDEX jobs_by_state ON jobs (state, key, queued_at);
CREATE INDEX jobs_by_training_file ON jobs (training_file);
CREATE INDEX jobs_by_validation_file ON jobs (validation_file) WHERE validation_file IS NOT NULL;
CREATE INDEX jobs_by_report ON jobs (report) WHERE report IS NOT NULL;

CREATE TABLE events (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    level TEXT NOT NULL,
    message TEXT NOT NULL,
    data TEXT,
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE steps (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (job, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX steps_by_blob ON steps (sha256);

CREATE TABLE checkpoints (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    step INTEGER NOT NULL,
    artifact TEXT NOT NULL,
    metrics TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (job, step)
) STRICT, WITHOUT ROWID;
CREATE INDEX checkpoints_by_blob ON checkpoints (artifact);

-- A deleted classifier keeps its row, so that its version numbers are never given to other versions.
CREATE TABLE classifiers (
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    deleted_at INTEGER,
    last_version INTEGER NOT NULL,
    production INTEGER,
    history TEXT NOT NULL DEFAULT '[]',
    traffic TEXT NOT NULL DEFAULT '{}',
    shadow INTEGER,
    aliases TEXT NOT NULL DEFAULT '{}',
    revision INTEGER NOT NULL DEFAULT 1,
    audit_count INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (key, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE versions (
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    origin TEXT NOT NULL,
    artifact TEXT NOT NULL,
    report TEXT,
    metrics TEXT NOT NULL,
    backbone TEXT NOT NULL,
    backbone_sha256 TEXT NOT NULL,
    job TEXT,
    training_file TEXT,
    validation_file TEXT,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (key, name, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX versions_by_artifact ON versions (artifact);
CREATE INDEX versions_by_report ON versions (report) WHERE report IS NOT NULL;
CREATE INDEX versions_by_training_file ON versions (training_file) WHERE training_file IS NOT NULL;
CREATE INDEX versions_by_validation_file ON versions (validation_file) WHERE validation_file IS NOT NULL;
CREATE UNIQUE INDEX versions_by_job ON versions (job) WHERE job IS NOT NULL;

CREATE TABLE audits (
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    action TEXT NOT NULL,
    who TEXT NOT NULL,
    before INTEGER,
    after INTEGER,
    reason TEXT NOT NULL,
    gate TEXT,
    PRIMARY KEY (key, name, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    key TEXT NOT NULL,
    route TEXT NOT NULL,
    token TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    resource TEXT NOT NULL,
    status INTEGER,
    body TEXT,
    created_at INTEGER NOT NULL,
    keep_ms INTEGER NOT NULL,
    hold INTEGER NOT NULL,
    held_at INTEGER NOT NULL,
    hold_ms INTEGER NOT NULL,
    PRIMARY KEY (key, route, token)
) STRICT, WITHOUT ROWID;
