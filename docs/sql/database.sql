-- The database's doors, once, by a superuser, in the new database:
--
--     createdb --owner=lazaret_owner lazaret
--     psql -X -v ON_ERROR_STOP=1 -U postgres -d lazaret -f database.sql
--
-- Out of the box every role of a server may connect to every database and make temporary tables in it. Here only the three may
-- connect, and only the owner may make anything.
DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO lazaret_owner, lazaret_app, lazaret_auditor', current_database());
END $$;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO lazaret_owner;
GRANT USAGE ON SCHEMA public TO lazaret_app, lazaret_auditor;

-- "lazaret check --database" looks whether anybody may come in without a password or without TLS. The rules (not the passwords)
-- are for superusers only, unless this is granted; without it the check says that it could not see them.
GRANT SELECT ON pg_hba_file_rules TO lazaret_app;
GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO lazaret_app;
