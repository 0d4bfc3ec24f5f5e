-- What may not be disposed of, whatever the policy says. All that is given must hold of a message. Whom it is about and why
-- are sealed. A row is never deleted: a released hold stays on record.
CREATE TABLE legal_hold (
    id           UUID PRIMARY KEY,
    organisation BIGINT NOT NULL,
    message      UUID,
    channel      TEXT NOT NULL,
    from_at      BIGINT NOT NULL,
    until_at     BIGINT NOT NULL,
    patient      BYTEA NOT NULL, -- blind, for people to compare; empty: not by patient
    sealed       BYTEA NOT NULL,
    added_at     BIGINT NOT NULL,
    added_by     TEXT NOT NULL,
    released_at  BIGINT NOT NULL DEFAULT 0,
    released_by  TEXT NOT NULL DEFAULT '',
    released     BYTEA
);
-- One disposal: of a month's content, of one channel's part of it (scope), of its metadata, or of a month of the audit log's
-- sealed details. state: 1 begun (decided, on record), 2 keys destroyed, 3 done and certified. place is the cursor of state 2.
CREATE TABLE disposal (
    organisation BIGINT NOT NULL,
    class        TEXT NOT NULL,
    period       BIGINT NOT NULL,
    scope        TEXT NOT NULL,
    state        BIGINT NOT NULL,
    begun_at     BIGINT NOT NULL,
    done_at      BIGINT NOT NULL DEFAULT 0,
    begun_by     TEXT NOT NULL,
    policy       TEXT NOT NULL,
    holds        BIGINT NOT NULL,
    note         TEXT NOT NULL,
    key_ids      TEXT NOT NULL DEFAULT '',
    place        UUID,
    messages     BIGINT NOT NULL DEFAULT 0,
    bytes        BIGINT NOT NULL DEFAULT 0,
    others       BIGINT NOT NULL DEFAULT 0,
    tokens       BIGINT NOT NULL DEFAULT 0,
    certificate  BIGINT NOT NULL DEFAULT -1,
    PRIMARY KEY (organisation, class, period, scope)
);
-- Since when the present policy is known, when it was last carried out, and who does it now.
CREATE TABLE retention_state (
    organisation BIGINT PRIMARY KEY,
    policy       TEXT NOT NULL,
    seen_at      BIGINT NOT NULL,
    checked_at   BIGINT NOT NULL,
    holder       UUID,
    lease_until  BIGINT NOT NULL DEFAULT 0
);
