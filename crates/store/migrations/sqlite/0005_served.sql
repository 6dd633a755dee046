-- When a key was last given a worker.
CREATE INDEX jobs_by_start ON jobs (key, started_at) WHERE started_at IS NOT NULL;
