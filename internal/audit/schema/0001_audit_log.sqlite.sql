-- The guide's table in SQLite's types, and behind its columns what the Merkle log needs; see the file for PostgreSQL for what each
-- is. seq is the row's own number here, so rows lie in the order of the log, every insert goes to the warm end, and no index on seq
-- or id is needed: id begins with seq.
CREATE TABLE audit_log (
    seq           INTEGER PRIMARY KEY,
    id            BLOB NOT NULL,
    timestamp     INTEGER NOT NULL, -- microseconds since 1970, UTC
    user_id       BLOB,
    event_type    TEXT NOT NULL,
    resource_type TEXT,
    resource_id   TEXT,
    action        TEXT NOT NULL,
    result        TEXT NOT NULL,
    ip_address    TEXT,
    user_agent    TEXT,
    details       TEXT,
    organisation  INTEGER NOT NULL,
    purpose       TEXT,
    session_id    BLOB,
    request_id    BLOB,
    program       TEXT,
    os_user       TEXT,
    private_hash  BLOB,
    salt          BLOB NOT NULL
) STRICT;
CREATE INDEX idx_audit_log_timestamp ON audit_log(timestamp);
CREATE INDEX idx_audit_log_user ON audit_log(user_id) WHERE user_id IS NOT NULL;
CREATE INDEX idx_audit_log_resource ON audit_log(resource_type, resource_id);

CREATE TABLE audit_detail (
    seq          INTEGER PRIMARY KEY,
    id           BLOB NOT NULL,
    organisation INTEGER NOT NULL,
    sealed       BLOB NOT NULL
) STRICT;

CREATE TABLE audit_tile (
    level  INTEGER NOT NULL,
    number INTEGER NOT NULL,
    hashes BLOB NOT NULL,
    root   BLOB NOT NULL,
    PRIMARY KEY (level, number)
) STRICT;

CREATE TRIGGER audit_log_no_update BEFORE UPDATE ON audit_log
    BEGIN SELECT RAISE(ABORT, 'the audit log takes entries and never changes one'); END;
CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log
    BEGIN SELECT RAISE(ABORT, 'the audit log takes entries and never loses one'); END;
CREATE TRIGGER audit_tile_no_update BEFORE UPDATE ON audit_tile
    BEGIN SELECT RAISE(ABORT, 'the audit log takes entries and never changes one'); END;
CREATE TRIGGER audit_tile_no_delete BEFORE DELETE ON audit_tile
    BEGIN SELECT RAISE(ABORT, 'the audit log takes entries and never loses one'); END;
CREATE TRIGGER audit_detail_no_update BEFORE UPDATE ON audit_detail
    BEGIN SELECT RAISE(ABORT, 'the audit log takes entries and never changes one'); END;
