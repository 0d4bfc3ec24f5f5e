-- The guide's table: its columns, types and index names, and behind them what the Merkle log needs. The differences between this
-- file and the one for SQLite are types, the form of triggers, and the way to a row by its number: id begins with seq, so the
-- primary key that the guide asks for serves as the index on seq too.
CREATE TABLE audit_log (
    id            UUID PRIMARY KEY DEFAULT gen_random_uuid(), -- the default is the guide's; we always give one
    timestamp     TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    user_id       UUID,
    event_type    VARCHAR(50) NOT NULL,
    resource_type VARCHAR(50),
    resource_id   VARCHAR(255),
    action        VARCHAR(50) NOT NULL,
    result        VARCHAR(20) NOT NULL,
    ip_address    INET,
    user_agent    TEXT,
    details       JSONB,
    seq           BIGINT NOT NULL, -- place in the Merkle log, from 0, without gaps
    organisation  BIGINT NOT NULL,
    purpose       VARCHAR(20),
    session_id    UUID,
    request_id    UUID,
    program       VARCHAR(100),
    os_user       VARCHAR(100),
    private_hash  BYTEA,           -- SHA-256 of audit_detail.sealed
    salt          BYTEA NOT NULL   -- makes the leaf's hash unguessable
);
CREATE INDEX idx_audit_log_timestamp ON audit_log(timestamp);
-- Most entries are the engine's own and have no user. Nobody looks for entries without one by this index, so they cost nothing here.
CREATE INDEX idx_audit_log_user ON audit_log(user_id) WHERE user_id IS NOT NULL;
-- Ids of resources begin with time, so that inserts stay at the warm end of each type.
CREATE INDEX idx_audit_log_resource ON audit_log(resource_type, resource_id);

-- What of an entry is PHI, sealed. Retention may drop these rows; the entry keeps their hash.
CREATE TABLE audit_detail (
    seq          BIGINT PRIMARY KEY,
    id           UUID NOT NULL, -- the row that the value was sealed for
    organisation BIGINT NOT NULL,
    sealed       BYTEA NOT NULL
);

-- Complete tiles of 256 hashes (C2SP tlog-tiles, height 8). Level 0 holds leaves; root is the hash over the tile.
CREATE TABLE audit_tile (
    level  BIGINT NOT NULL,
    number BIGINT NOT NULL,
    hashes BYTEA NOT NULL,
    root   BYTEA NOT NULL,
    PRIMARY KEY (level, number)
);

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log takes entries and never changes or loses one';
END $$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_log_no_truncate BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_tile_append_only BEFORE UPDATE OR DELETE ON audit_tile
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_tile_no_truncate BEFORE TRUNCATE ON audit_tile
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_detail_no_update BEFORE UPDATE ON audit_detail
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
