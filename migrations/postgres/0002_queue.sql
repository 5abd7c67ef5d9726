-- Jobs wait and run in the table as well as end there. A digest has at most one job that waits, runs or succeeded, so the
-- same request is never computed twice at a time, nor again once it is answered.
-- Times that the queue compares are milliseconds since the Unix epoch.

ALTER TABLE jobs
    DROP CONSTRAINT jobs_state_check,
    ALTER COLUMN finished_at DROP NOT NULL,
    ADD COLUMN model            TEXT,
    ADD COLUMN solver           TEXT,
    ADD COLUMN nfe              INTEGER,
    ADD COLUMN work             TEXT    NOT NULL DEFAULT 'proxy' CHECK (work IN ('proxy', 'calibration')),
    -- Waiting jobs are claimed in this order: when they came, less a head start for their priority.
    ADD COLUMN rank             BIGINT  NOT NULL DEFAULT 0,
    ADD COLUMN epoch            BIGINT  NOT NULL DEFAULT 1,
    ADD COLUMN attempts         BIGINT  NOT NULL DEFAULT 1,
    ADD COLUMN run_after        BIGINT  NOT NULL DEFAULT 0,
    ADD COLUMN worker           TEXT,
    ADD COLUMN lease_until      BIGINT,
    ADD COLUMN cancel_requested BOOLEAN NOT NULL DEFAULT FALSE,
    ADD COLUMN progress         TEXT,
    ADD COLUMN error_code       TEXT;

UPDATE jobs
SET model = request::jsonb ->> 'model',
    solver = request::jsonb -> 'solver' ->> 'name',
    nfe = (request::jsonb ->> 'nfe')::integer,
    error_code = CASE WHEN error IS NULL THEN NULL ELSE 'failed' END;

ALTER TABLE jobs
    ALTER COLUMN model SET NOT NULL,
    ALTER COLUMN solver SET NOT NULL,
    ALTER COLUMN nfe SET NOT NULL,
    ADD CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'canceled')),
    ADD CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    ADD CHECK ((state = 'succeeded') = (schedule_id IS NOT NULL)),
    ADD CHECK ((state = 'failed') = (error IS NOT NULL)),
    ADD CHECK ((state IN ('queued', 'running')) = (finished_at IS NULL));

DROP INDEX jobs_one_answer;
CREATE UNIQUE INDEX jobs_one_per_digest ON jobs (digest) WHERE state IN ('queued', 'running', 'succeeded');
CREATE INDEX jobs_waiting ON jobs (rank, id) WHERE state = 'queued';
CREATE INDEX jobs_leased ON jobs (lease_until) WHERE state = 'running';
CREATE INDEX jobs_by_model ON jobs (model, id);
CREATE INDEX jobs_by_state ON jobs (state, id);

-- Who computes, so that work waits for the device it is meant for only while there is one.
CREATE TABLE workers (
    id         TEXT COLLATE "C" PRIMARY KEY,
    device     TEXT   NOT NULL CHECK (device IN ('cpu', 'gpu')),
    seen_until BIGINT NOT NULL
);

-- What a client's Idempotency-Key stood for; a batch has one row for each of its requests.
CREATE TABLE idempotency_keys (
    key         TEXT   NOT NULL,
    item        BIGINT NOT NULL,
    fingerprint TEXT   NOT NULL,
    job_id      TEXT   NOT NULL,
    expires_at  BIGINT NOT NULL,
    PRIMARY KEY (key, item)
);

CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires_at);

-- The outbox: who is told that a job has ended. Armed (due) in the transaction that ends the job.
CREATE TABLE webhooks (
    id       TEXT COLLATE "C" PRIMARY KEY,
    job_id   TEXT   NOT NULL,
    url      TEXT   NOT NULL,
    state    TEXT   NOT NULL CHECK (state IN ('waiting', 'due', 'delivered', 'failed')),
    attempts BIGINT NOT NULL,
    due_at   BIGINT NOT NULL,
    error    TEXT
);

CREATE INDEX webhooks_by_job ON webhooks (job_id);
CREATE INDEX webhooks_due ON webhooks (due_at) WHERE state = 'due';
