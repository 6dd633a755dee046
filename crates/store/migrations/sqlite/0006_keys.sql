-- Of a key's secret there is only the SHA-256. Rows stay when keys are revoked: a name and what it owns never becomes
-- somebody else's unless that is asked for.
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    requests_per_minute INTEGER,
    concurrency INTEGER,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT;
CREATE INDEX keys_by_name ON keys (name);
-- Grows with every change of a key, so that whoever holds keys in memory reads one value to know.
INSERT INTO meta VALUES ('keys', 0);

-- What was done by whom, of all kinds; numbers are never given twice.
CREATE TABLE acts (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER NOT NULL,
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    details TEXT NOT NULL
) STRICT;
CREATE INDEX acts_by_who ON acts (who, number);
CREATE INDEX acts_by_time ON acts (created_at);

INSERT INTO acts (created_at, who, action, subject, details)
SELECT created_at, who, action, subject, details FROM (
    SELECT created_at, who, 'classifier.' || action AS action,
        CASE key WHEN '' THEN name ELSE key || '/' || name END AS subject,
        json_object('before', before, 'after', after, 'reason', reason) AS details
    FROM audits
    UNION ALL
    SELECT created_at, key, 'purge.create', id, '{}' FROM purges
) ORDER BY created_at;

-- Whatever writes a classifier's audit or a purge writes the act, in the same transaction.
CREATE TRIGGER acts_of_classifiers AFTER INSERT ON audits BEGIN
    INSERT INTO acts (created_at, who, action, subject, details)
    VALUES (NEW.created_at, NEW.who, 'classifier.' || NEW.action,
        CASE NEW.key WHEN '' THEN NEW.name ELSE NEW.key || '/' || NEW.name END,
        json_object('before', NEW.before, 'after', NEW.after, 'reason', NEW.reason));
END;
CREATE TRIGGER acts_of_purges AFTER INSERT ON purges BEGIN
    INSERT INTO acts (created_at, who, action, subject, details)
    VALUES (NEW.created_at, NEW.key, 'purge.create', NEW.id, '{}');
END;
