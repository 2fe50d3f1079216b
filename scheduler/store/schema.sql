-- Generated from tables.py: python -m dsched.scheduler.store.tables > scheduler/store/schema.sql

CREATE TABLE alert (
    "key" TEXT NOT NULL,
    body TEXT NOT NULL,
    sent INTEGER NOT NULL GENERATED ALWAYS AS (json_extract(body, '$.sent')) VIRTUAL,
    PRIMARY KEY ("key"),
    CONSTRAINT sent_known CHECK (sent IN (0, 1))
)
 STRICT;

CREATE TABLE attempt (
    "key" TEXT NOT NULL,
    body TEXT NOT NULL,
    job TEXT NOT NULL GENERATED ALWAYS AS (json_extract(body, '$.job')) VIRTUAL,
    generation INTEGER NOT NULL GENERATED ALWAYS AS (json_extract(body, '$.generation')) VIRTUAL,
    ended INTEGER GENERATED ALWAYS AS (json_extract(body, '$.ended.market')) VIRTUAL,
    PRIMARY KEY ("key")
)
 STRICT;

CREATE INDEX attempt_job ON attempt (job, generation);

CREATE UNIQUE INDEX attempt_one_live ON attempt (job) WHERE ended IS NULL;

CREATE TABLE budget (
    "key" TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY ("key")
)
 STRICT;

CREATE TABLE decision (
    "key" TEXT NOT NULL,
    body TEXT NOT NULL,
    job TEXT NOT NULL GENERATED ALWAYS AS (json_extract(body, '$.job')) VIRTUAL,
    PRIMARY KEY ("key")
)
 STRICT;

CREATE INDEX decision_job ON decision (job);

CREATE TABLE event (
    seq INTEGER NOT NULL,
    wall INTEGER NOT NULL,
    market INTEGER NOT NULL,
    kind TEXT NOT NULL,
    job TEXT NOT NULL,
    node TEXT NOT NULL,
    why TEXT NOT NULL,
    body TEXT NOT NULL,
    prev_hash BLOB NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (seq)
)
 STRICT;

CREATE INDEX event_job ON event (job) WHERE job <> '';

CREATE TABLE intent (
    "key" TEXT NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL GENERATED ALWAYS AS (json_extract(body, '$.state')) VIRTUAL,
    job TEXT NOT NULL GENERATED ALWAYS AS (json_extract(body, '$.job')) VIRTUAL,
    PRIMARY KEY ("key"),
    CONSTRAINT state_known CHECK (state IN (
        'pending',
        'sent',
        'ambiguous',
        'done',
        'refused'
    ))
)
 STRICT;

CREATE INDEX intent_state ON intent (state);

CREATE TABLE job (
    "key" TEXT NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL GENERATED ALWAYS AS (json_extract(body, '$.state')) VIRTUAL,
    user TEXT NOT NULL GENERATED ALWAYS AS (json_extract(body, '$.spec.user')) VIRTUAL,
    name TEXT NOT NULL GENERATED ALWAYS AS (json_extract(body, '$.spec.name')) VIRTUAL,
    submitted INTEGER NOT NULL GENERATED ALWAYS AS (json_extract(body, '$.submitted.market')) VIRTUAL,
    ended INTEGER GENERATED ALWAYS AS (json_extract(body, '$.ended')) VIRTUAL,
    idempotency TEXT NOT NULL GENERATED ALWAYS AS (json_extract(body, '$.key')) VIRTUAL,
    PRIMARY KEY ("key"),
    CONSTRAINT state_known CHECK (state IN (
        'queued',
        'held',
        'starting',
        'running',
        'draining',
        'paused',
        'succeeded',
        'failed',
        'cancelled'
    ))
)
 STRICT;

CREATE UNIQUE INDEX job_idempotency ON job (idempotency) WHERE idempotency <> '';

CREATE INDEX job_name ON job (name);

CREATE INDEX job_state ON job (state, ended);

CREATE INDEX job_user ON job (user);

CREATE TABLE ledger (
    "key" TEXT NOT NULL,
    body TEXT NOT NULL,
    job TEXT NOT NULL GENERATED ALWAYS AS (json_extract(body, '$.job')) VIRTUAL,
    node TEXT NOT NULL GENERATED ALWAYS AS (json_extract(body, '$.node')) VIRTUAL,
    budget TEXT NOT NULL GENERATED ALWAYS AS (json_extract(body, '$.budget')) VIRTUAL,
    start INTEGER NOT NULL GENERATED ALWAYS AS (json_extract(body, '$.start')) VIRTUAL,
    PRIMARY KEY ("key")
)
 STRICT;

CREATE INDEX ledger_budget ON ledger (budget, start);

CREATE INDEX ledger_job ON ledger (job, start);

CREATE INDEX ledger_node ON ledger (node, start);

CREATE INDEX ledger_start ON ledger (start);

CREATE TABLE meta (
    "key" TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY ("key")
)
 STRICT;

CREATE TABLE node (
    "key" TEXT NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL GENERATED ALWAYS AS (json_extract(body, '$.state')) VIRTUAL,
    token TEXT NOT NULL GENERATED ALWAYS AS (json_extract(body, '$.token')) VIRTUAL,
    job TEXT NOT NULL GENERATED ALWAYS AS (json_extract(body, '$.job')) VIRTUAL,
    PRIMARY KEY ("key"),
    CONSTRAINT state_known CHECK (state IN (
        'requested',
        'booting',
        'ready',
        'draining',
        'gone'
    ))
)
 STRICT;

CREATE INDEX node_state ON node (state);

CREATE TABLE pool (
    "key" TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY ("key")
)
 STRICT;

CREATE TABLE progress (
    "key" TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY ("key")
)
 STRICT;

CREATE TABLE quote (
    pool TEXT NOT NULL,
    at INTEGER NOT NULL,
    price INTEGER NOT NULL,
    source TEXT NOT NULL,
    PRIMARY KEY (pool),
    CONSTRAINT price_known CHECK (price >= 0)
)
 STRICT;

CREATE TABLE quote_journal (
    pool TEXT NOT NULL,
    at INTEGER NOT NULL,
    price INTEGER NOT NULL,
    source TEXT NOT NULL,
    PRIMARY KEY (pool, at)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE speed (
    "key" TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY ("key")
)
 STRICT;

CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

INSERT INTO alembic_version (version_num) VALUES ('0003');
