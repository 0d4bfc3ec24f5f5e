-- What the service and the auditor may do with which table, after each "lazaret migrate", by the owner:
--
--     psql -X -v ON_ERROR_STOP=1 -U lazaret_owner -d lazaret -f grants.sql
--
-- Everything is taken first and what is needed is given, so it may be run at any time. A table that a later release adds is not in
-- it until its own copy of this file names it: then "lazaret serve" refuses to start and says so.
BEGIN;
DO $$
DECLARE
    name TEXT;
BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tableowner = current_user LOOP
        EXECUTE format('REVOKE ALL ON public.%I FROM PUBLIC, lazaret_app, lazaret_auditor', name);
    END LOOP;
END $$;

-- The record: entries are added and never changed. Of audit_detail, which is what of an entry is PHI, sealed, a row may go when
-- its retention is over; the entry keeps the row's hash. Triggers refuse the rest to whoever has more rights than these.
GRANT SELECT, INSERT ON audit_log, audit_tile TO lazaret_app;
GRANT SELECT, INSERT, DELETE ON audit_detail TO lazaret_app;

-- The next number, and size and right edge of the audit tree: one row, changed by every transaction.
GRANT SELECT, UPDATE ON line TO lazaret_app;

-- Which form the tables have.
GRANT SELECT ON schema_migration TO lazaret_app;

-- Messages and what hangs on them, each behind its organisation's row policy: taken, delivered, sealed anew, disposed of.
GRANT SELECT, INSERT, UPDATE, DELETE ON message, content, delivery, attempt, token_recent TO lazaret_app;
GRANT SELECT, INSERT, DELETE ON token_bucket, token_run TO lazaret_app;

-- Names and their numbers are never taken back, for the record speaks of them.
GRANT SELECT, INSERT ON organisation, channel_revision TO lazaret_app;
GRANT SELECT, INSERT, UPDATE ON channel, queue TO lazaret_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON rejected_usage, reseal TO lazaret_app;

-- Retention: what was held, decided and disposed of stays.
GRANT SELECT, INSERT, UPDATE ON legal_hold, disposal, retention_state TO lazaret_app;
GRANT SELECT, INSERT ON message_disposal TO lazaret_app;

-- The auditor recomputes the tree from its rows and compares it with its edge, which is in line. What is sealed stays sealed.
GRANT SELECT ON audit_log, audit_detail, audit_tile, line, schema_migration TO lazaret_auditor;
COMMIT;
