-- What may not be disposed of, whatever the policy says. All that is given must hold of a message. Whom it is about and why
-- are sealed. A row is never deleted: a released hold stays on record.
CREATE TABLE legal_hold (
    id           BLOB PRIMARY KEY,
    organisation INTEGER NOT NULL,
    message      BLOB,
    channel      TEXT NOT NULL,
    from_at      INTEGER NOT NULL,
    until_at     INTEGER NOT NULL,
    patient      BLOB NOT NULL, -- blind, for people to compare; empty: not by patient
    sealed       BLOB NOT NULL,
    added_at     INTEGER NOT NULL,
    added_by     TEXT NOT NULL,
    released_at  INTEGER NOT NULL DEFAULT 0,
    released_by  TEXT NOT NULL DEFAULT '',
    released     BLOB
);
-- One disposal: of a month's content, of one channel's part of it (scope), of its metadata, or of a month of the audit log's
-- sealed details. state: 1 begun (decided, on record), 2 keys destroyed, 3 done and certified. place is the cursor of state 2.
CREATE TABLE disposal (
    organisation INTEGER NOT NULL,
    class        TEXT NOT NULL,
    period       INTEGER NOT NULL,
    scope        TEXT NOT NULL,
    state        INTEGER NOT NULL,
    begun_at     INTEGER NOT NULL,
    done_at      INTEGER NOT NULL DEFAULT 0,
    begun_by     TEXT NOT NULL,
    policy       TEXT NOT NULL,
    holds        INTEGER NOT NULL,
    note         TEXT NOT NULL,
    key_ids      TEXT NOT NULL DEFAULT '',
    place        BLOB,
    messages     INTEGER NOT NULL DEFAULT 0,
    bytes        INTEGER NOT NULL DEFAULT 0,
    others       INTEGER NOT NULL DEFAULT 0,
    tokens       INTEGER NOT NULL DEFAULT 0,
    certificate  INTEGER NOT NULL DEFAULT -1,
    PRIMARY KEY (organisation, class, period, scope)
);
-- Since when the present policy is known, when it was last carried out, and who does it now.
CREATE TABLE retention_state (
    organisation INTEGER PRIMARY KEY,
    policy       TEXT NOT NULL,
    seen_at      INTEGER NOT NULL,
    checked_at   INTEGER NOT NULL,
    holder       BLOB,
    lease_until  INTEGER NOT NULL DEFAULT 0
);
