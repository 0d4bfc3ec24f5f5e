-- What a message costs on SQLite, by rows: message, content, one delivery a destination, its audit entry, and a share of one
-- token_recent row a group. Everything is keyed by the number of acceptance, so that every insert is at the right edge of its
-- tree; random keys were measured to cost more than all the rest together.
CREATE TABLE organisation (
    number INTEGER PRIMARY KEY,
    id     BLOB NOT NULL UNIQUE,
    name   TEXT NOT NULL UNIQUE
);
CREATE TABLE channel (
    number       INTEGER PRIMARY KEY,
    organisation INTEGER NOT NULL REFERENCES organisation (number),
    name         TEXT NOT NULL,
    stopped      INTEGER NOT NULL DEFAULT 0,
    revision     INTEGER NOT NULL DEFAULT 0,
    UNIQUE (organisation, name)
);
-- The settings that a channel had, without secrets. Every message names the revisions that took and that delivered it.
CREATE TABLE channel_revision (
    channel    INTEGER NOT NULL REFERENCES channel (number),
    revision   INTEGER NOT NULL,
    digest     BLOB NOT NULL,
    settings   TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (channel, revision)
) WITHOUT ROWID;
-- One queue a destination. Everything below low is settled. Who holds the lease raises the fence; a change under an older
-- fence touches no row.
CREATE TABLE queue (
    number       INTEGER PRIMARY KEY,
    channel      INTEGER NOT NULL REFERENCES channel (number),
    name         TEXT NOT NULL,
    paused       INTEGER NOT NULL DEFAULT 0,
    held         TEXT NOT NULL DEFAULT '',
    low          INTEGER NOT NULL DEFAULT 0,
    holder       BLOB,
    lease_until  INTEGER NOT NULL DEFAULT 0,
    fence        INTEGER NOT NULL DEFAULT 0,
    UNIQUE (channel, name)
);
CREATE TABLE message (
    number       INTEGER PRIMARY KEY,
    id           BLOB NOT NULL,
    organisation INTEGER NOT NULL,
    channel      INTEGER NOT NULL,
    revision     INTEGER NOT NULL,
    accepted_at  INTEGER NOT NULL,
    status       INTEGER NOT NULL,
    type         TEXT NOT NULL,
    size         INTEGER NOT NULL,
    peer         TEXT NOT NULL,
    flags        INTEGER NOT NULL,
    reason       TEXT,
    header       BLOB NOT NULL
);
CREATE UNIQUE INDEX message_id ON message (id);
CREATE INDEX message_rejected ON message (organisation, number) WHERE status = 2;
-- The sealed bytes as they came.
CREATE TABLE content (
    number INTEGER PRIMARY KEY,
    sealed BLOB NOT NULL
);
-- number is the message's own number for its first way, and a new one for a resend.
CREATE TABLE delivery (
    queue      INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    message    INTEGER NOT NULL,
    state      INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    next_at    INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    settled_at INTEGER NOT NULL,
    revision   INTEGER NOT NULL,
    flags      INTEGER NOT NULL,
    keys       BLOB NOT NULL,
    outcome    TEXT NOT NULL,
    PRIMARY KEY (queue, number)
) WITHOUT ROWID;
CREATE INDEX delivery_error ON delivery (queue, number) WHERE state = 5;
CREATE INDEX delivery_resent ON delivery (message) WHERE message <> number;
-- The sealed bytes of an attempt, where they are not the bytes that came.
CREATE TABLE attempt (
    queue  INTEGER NOT NULL,
    number INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (queue, number)
);
-- Search tokens of the newest messages: a row a group. When there are many they are sorted into a bucket.
CREATE TABLE token_recent (
    organisation INTEGER NOT NULL,
    number       INTEGER NOT NULL,
    tokens       BLOB NOT NULL,
    PRIMARY KEY (organisation, number)
) WITHOUT ROWID;
CREATE TABLE token_bucket (
    organisation INTEGER NOT NULL,
    number       INTEGER NOT NULL,
    last         INTEGER NOT NULL,
    first_at     INTEGER NOT NULL,
    last_at      INTEGER NOT NULL,
    count        INTEGER NOT NULL,
    PRIMARY KEY (organisation, number)
) WITHOUT ROWID;
CREATE TABLE token_run (
    organisation INTEGER NOT NULL,
    bucket       INTEGER NOT NULL,
    field        INTEGER NOT NULL,
    first        BLOB NOT NULL,
    tokens       BLOB NOT NULL,
    PRIMARY KEY (organisation, bucket, field, first)
);
-- Bytes of refused content kept for a peer on a day, so that a stranger cannot fill the disk.
CREATE TABLE rejected_usage (
    channel INTEGER NOT NULL,
    day     INTEGER NOT NULL,
    peer    TEXT NOT NULL,
    bytes   INTEGER NOT NULL,
    PRIMARY KEY (channel, day, peer)
) WITHOUT ROWID;
