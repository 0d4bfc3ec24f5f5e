-- What a message costs on PostgreSQL, by rows: message, content, one delivery a destination, its audit entry, and a share of one
-- token_recent row a group. Everything is keyed by the number of acceptance, so that every insert is at the right edge of its
-- tree; random keys cost most of the rest.
CREATE TABLE organisation (
    number BIGINT PRIMARY KEY,
    id     UUID NOT NULL UNIQUE,
    name   TEXT NOT NULL UNIQUE
);
CREATE TABLE channel (
    number       BIGINT PRIMARY KEY,
    organisation BIGINT NOT NULL REFERENCES organisation (number),
    name         TEXT NOT NULL,
    stopped      BIGINT NOT NULL DEFAULT 0,
    revision     BIGINT NOT NULL DEFAULT 0,
    UNIQUE (organisation, name)
);
-- The settings that a channel had, without secrets. Every message names the revisions that took and that delivered it.
CREATE TABLE channel_revision (
    channel    BIGINT NOT NULL REFERENCES channel (number),
    revision   BIGINT NOT NULL,
    digest     BYTEA NOT NULL,
    settings   TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (channel, revision)
);
-- One queue a destination. Everything below low is settled. Who holds the lease raises the fence; a change under an older
-- fence touches no row.
CREATE TABLE queue (
    number       BIGINT PRIMARY KEY,
    channel      BIGINT NOT NULL REFERENCES channel (number),
    name         TEXT NOT NULL,
    paused       BIGINT NOT NULL DEFAULT 0,
    held         TEXT NOT NULL DEFAULT '',
    low          BIGINT NOT NULL DEFAULT 0,
    holder       UUID,
    lease_until  BIGINT NOT NULL DEFAULT 0,
    fence        BIGINT NOT NULL DEFAULT 0,
    UNIQUE (channel, name)
);
CREATE TABLE message (
    number       BIGINT PRIMARY KEY,
    id           UUID NOT NULL,
    organisation BIGINT NOT NULL,
    channel      BIGINT NOT NULL,
    revision     BIGINT NOT NULL,
    accepted_at  BIGINT NOT NULL,
    status       BIGINT NOT NULL,
    type         TEXT NOT NULL,
    size         BIGINT NOT NULL,
    peer         TEXT NOT NULL,
    flags        BIGINT NOT NULL,
    reason       TEXT,
    header       BYTEA NOT NULL
);
CREATE UNIQUE INDEX message_id ON message (id);
CREATE INDEX message_rejected ON message (organisation, number) WHERE status = 2;
-- The sealed bytes as they came.
CREATE TABLE content (
    number BIGINT PRIMARY KEY,
    sealed BYTEA NOT NULL
);
-- number is the message's own number for its first way, and a new one for a resend.
CREATE TABLE delivery (
    queue      BIGINT NOT NULL,
    number     BIGINT NOT NULL,
    message    BIGINT NOT NULL,
    state      BIGINT NOT NULL,
    attempts   BIGINT NOT NULL,
    next_at    BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    settled_at BIGINT NOT NULL,
    revision   BIGINT NOT NULL,
    flags      BIGINT NOT NULL,
    keys       BYTEA NOT NULL,
    outcome    TEXT NOT NULL,
    PRIMARY KEY (queue, number)
);
CREATE INDEX delivery_error ON delivery (queue, number) WHERE state = 5;
CREATE INDEX delivery_resent ON delivery (message) WHERE message <> number;
-- The sealed bytes of an attempt, where they are not the bytes that came.
CREATE TABLE attempt (
    queue  BIGINT NOT NULL,
    number BIGINT NOT NULL,
    sealed BYTEA NOT NULL,
    PRIMARY KEY (queue, number)
);
-- Search tokens of the newest messages: a row a group. When there are many they are sorted into a bucket.
CREATE TABLE token_recent (
    organisation BIGINT NOT NULL,
    number       BIGINT NOT NULL,
    tokens       BYTEA NOT NULL,
    PRIMARY KEY (organisation, number)
);
CREATE TABLE token_bucket (
    organisation BIGINT NOT NULL,
    number       BIGINT NOT NULL,
    last         BIGINT NOT NULL,
    first_at     BIGINT NOT NULL,
    last_at      BIGINT NOT NULL,
    count        BIGINT NOT NULL,
    PRIMARY KEY (organisation, number)
);
CREATE TABLE token_run (
    organisation BIGINT NOT NULL,
    bucket       BIGINT NOT NULL,
    field        BIGINT NOT NULL,
    first        BYTEA NOT NULL,
    tokens       BYTEA NOT NULL,
    PRIMARY KEY (organisation, bucket, field, first)
);
-- Bytes of refused content kept for a peer on a day, so that a stranger cannot fill the disk.
CREATE TABLE rejected_usage (
    channel BIGINT NOT NULL,
    day     BIGINT NOT NULL,
    peer    TEXT NOT NULL,
    bytes   BIGINT NOT NULL,
    PRIMARY KEY (channel, day, peer)
);
-- Sealed bytes do not compress; trying costs time.
ALTER TABLE content ALTER COLUMN sealed SET STORAGE EXTERNAL;
ALTER TABLE attempt ALTER COLUMN sealed SET STORAGE EXTERNAL;
-- Deliveries are marked and settled in place: room in each page keeps those updates off the indexes (HOT).
ALTER TABLE delivery SET (fillfactor = 70);
