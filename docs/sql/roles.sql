-- The three roles, once a server, by a superuser:
--
--     psql -X -v ON_ERROR_STOP=1 -U postgres -d postgres -f roles.sql
--
-- lazaret_owner    owns the tables and changes their form: "lazaret migrate", when a release asks for it, and nothing else
-- lazaret_app      is the service. It owns nothing, so row-level security binds it, and it can change no entry of the audit log,
--                  not even by switching off the triggers that refuse it
-- lazaret_auditor  reads the audit log and nothing else
--
-- None has a password yet, so that none ever stands in a statement, where a server's log may keep it. Set them with psql's
-- \password lazaret_app, which sends only the SCRAM verifier. It may be run again: what exists stays as it is, but loses what
-- such a role must not have.
DO $$
DECLARE
    name TEXT;
BEGIN
    FOREACH name IN ARRAY ARRAY['lazaret_owner', 'lazaret_app', 'lazaret_auditor'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', name);
        END IF;
        EXECUTE format('ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', name);
    END LOOP;
END $$;

-- A service that may become the owner is the owner, and an auditor who may become the service reads messages.
DO $$
DECLARE
    of RECORD;
BEGIN
    FOR of IN SELECT r.rolname AS role, m.rolname AS member FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid
        JOIN pg_roles m ON m.oid = a.member WHERE m.rolname IN ('lazaret_app', 'lazaret_auditor') LOOP
        EXECUTE format('REVOKE %I FROM %I', of.role, of.member);
    END LOOP;
END $$;

-- What the service sends are sealed values, but beside them stand times, message types and the names of peers. So that no
-- setting for the whole server brings them into its log, where Lazaret's retention does not reach:
ALTER ROLE lazaret_app SET log_parameter_max_length = 0;
ALTER ROLE lazaret_app SET log_parameter_max_length_on_error = 0;
