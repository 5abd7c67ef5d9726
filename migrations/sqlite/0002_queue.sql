-- Jobs wait and run in the table as well as end there. A digest has at most one job that waits, runs or succeeded, so the
-- same request is never computed twice at a time, nor again once it is answered.
-- Times that the queue compares are milliseconds since the Unix epoch.

CREATE TABLE queue (
    id               TEXT PRIMARY KEY,
    digest           TEXT    NOT NULL,
    model            TEXT    NOT NULL,
    solver           TEXT    NOT NULL,
    nfe              INTEGER NOT NULL,
    request          TEXT    NOT NULL,
    work             TEXT    NOT NULL CHECK (work IN ('proxy', 'calibration')),
    -- Waiting jobs are claimed in this order: when they came, less a head start for their priority.
    rank             INTEGER NOT NULL,
    state            TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'canceled')),
    epoch            INTEGER NOT NULL,
    attempts         INTEGER NOT NULL,
    run_after        INTEGER NOT NULL,
    worker           TEXT,
    lease_until      INTEGER,
    cancel_requested INTEGER NOT NULL,
    progress         TEXT,
    schedule_id      TEXT REFERENCES schedules (id),
    error_code       TEXT,
    error            TEXT,
    created_at       TEXT    NOT NULL,
    finished_at      TEXT,
    CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state = 'succeeded') = (schedule_id IS NOT NULL)),
    CHECK ((state = 'failed') = (error IS NOT NULL)),
    CHECK ((state IN ('queued', 'running')) = (finished_at IS NULL))
) STRICT, WITHOUT ROWID;

INSERT INTO queue
SELECT id, digest, json_extract(request, '$.model'), json_extract(request, '$.solver.name'), json_extract(request, '$.nfe'),
       request, 'proxy', 0, state, 1, 1, 0, NULL, NULL, 0, NULL, schedule_id,
       CASE WHEN error IS NULL THEN NULL ELSE 'failed' END, error, created_at, finished_at
FROM jobs;

DROP TABLE jobs;
ALTER TABLE queue RENAME TO jobs;

CREATE UNIQUE INDEX jobs_one_per_digest ON jobs (digest) WHERE state IN ('queued', 'running', 'succeeded');
CREATE INDEX jobs_waiting ON jobs (rank, id) WHERE state = 'queued';
CREATE INDEX jobs_leased ON jobs (lease_until) WHERE state = 'running';
CREATE INDEX jobs_by_model ON jobs (model, id);
CREATE INDEX jobs_by_state ON jobs (state, id);

-- Who computes, so that work waits for the device it is meant for only while there is one.
CREATE TABLE workers (
    id         TEXT PRIMARY KEY,
    device     TEXT    NOT NULL CHECK (device IN ('cpu', 'gpu')),
    seen_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What a client's Idempotency-Key stood for; a batch has one row for each of its requests.
CREATE TABLE idempotency_keys (
    key         TEXT    NOT NULL,
    item        INTEGER NOT NULL,
    fingerprint TEXT    NOT NULL,
    job_id      TEXT    NOT NULL,
    expires_at  INTEGER NOT NULL,
    PRIMARY KEY (key, item)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires_at);

-- The outbox: who is told that a job has ended. Armed (due) in the transaction that ends the job.
CREATE TABLE webhooks (
    id       TEXT PRIMARY KEY,
    job_id   TEXT    NOT NULL,
    url      TEXT    NOT NULL,
    state    TEXT    NOT NULL CHECK (state IN ('waiting', 'due', 'delivered', 'failed')),
    attempts INTEGER NOT NULL,
    due_at   INTEGER NOT NULL,
    error    TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX webhooks_by_job ON webhooks (job_id);
CREATE INDEX webhooks_due ON webhooks (due_at) WHERE state = 'due';
