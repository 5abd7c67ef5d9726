-- Schedules are content-addressed and never change. A job remembers the request that made one; a request's digest has at
-- most one succeeded job, which is how the cache finds its answer.

CREATE TABLE schedules (
    id         TEXT COLLATE "C" PRIMARY KEY,
    model      TEXT    NOT NULL,
    solver     TEXT    NOT NULL,
    nfe        INTEGER NOT NULL,
    method     TEXT    NOT NULL,
    document   TEXT    NOT NULL,
    created_at TEXT    NOT NULL
);

CREATE INDEX schedules_by_key ON schedules (model, solver, nfe, method, id);

CREATE TABLE jobs (
    id          TEXT COLLATE "C" PRIMARY KEY,
    digest      TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('succeeded', 'failed', 'canceled')),
    request     TEXT NOT NULL,
    schedule_id TEXT COLLATE "C" REFERENCES schedules (id),
    error       TEXT,
    created_at  TEXT NOT NULL,
    finished_at TEXT NOT NULL
);

CREATE UNIQUE INDEX jobs_one_answer ON jobs (digest) WHERE state = 'succeeded';

CREATE TABLE models (
    id         TEXT COLLATE "C" PRIMARY KEY,
    document   TEXT NOT NULL,
    created_at TEXT NOT NULL
);
