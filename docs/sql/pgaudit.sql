-- pgAudit as the security guide asks for it, once a server, by a superuser in Lazaret's database:
--
--     postgresql.conf: shared_preload_libraries = 'pgaudit'      and a restart: without it none of this works
--     psql -X -v ON_ERROR_STOP=1 -U postgres -d lazaret -f pgaudit.sql
--
-- What it is for: Lazaret's own acts are in audit_log, each in the transaction of the act. What a person does with psql is not;
-- pgAudit writes that into the server's log, which should go to another machine (log_destination = 'syslog'), for whoever has
-- the server has its files.
CREATE EXTENSION IF NOT EXISTS pgaudit;
ALTER SYSTEM SET pgaudit.log = 'all';
ALTER SYSTEM SET pgaudit.log_catalog = off;

-- The guide's log_parameter = on writes every value of every statement into the log. In a database that holds patients in the
-- clear this copies them all into a file that no retention, no right and no key governs. Here the values that say something of a
-- patient were sealed before they came, or are blind; what is legible is times, message types and the names of peers.
ALTER SYSTEM SET pgaudit.log_parameter = on;
ALTER SYSTEM SET pgaudit.log_statement_once = on;

-- The service writes thousands of statements a second, all of which audit_log knows better. Of it only what it should never do:
ALTER ROLE lazaret_app SET pgaudit.log = 'ddl, role';
SELECT pg_reload_conf();
