-- The trace of the request that made a job, as W3C's `traceparent` has it: whoever is told of the job's end is told it too.
ALTER TABLE jobs ADD COLUMN traceparent TEXT;
