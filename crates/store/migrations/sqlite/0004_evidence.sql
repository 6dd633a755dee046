-- What a version says of its held-out rows, for the gate.
ALTER TABLE versions ADD COLUMN evidence TEXT;
CREATE INDEX versions_by_evidence ON versions (evidence) WHERE evidence IS NOT NULL;
