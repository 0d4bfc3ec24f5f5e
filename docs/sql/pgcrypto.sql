-- The guide's example of pgcrypto, in a form that runs, to look at. Lazaret does not use it: the application seals, the database
-- stores. In a database of its own (CREATE EXTENSION takes who may create in it):
--
--     psql -X -v ON_ERROR_STOP=1 -d scratch -f pgcrypto.sql
--
-- The number is invented; it is the guide's.
CREATE EXTENSION IF NOT EXISTS pgcrypto;
CREATE TEMPORARY TABLE example_patient_data (
    id            UUID PRIMARY KEY,
    encrypted_ssn BYTEA, -- Store encrypted SSN
    encrypted_dob BYTEA  -- Store encrypted date of birth
);
INSERT INTO example_patient_data (id, encrypted_ssn, encrypted_dob)
VALUES (
    gen_random_uuid(),
    pgp_sym_encrypt('123-45-6789', 'encryption_key'),
    pgp_sym_encrypt('1980-01-01', 'encryption_key')
);

-- 1. Value and key stood in the statement. While it runs everybody with pg_read_all_stats reads both in pg_stat_activity, and after
--    it they stay there until the session's next statement. With log_statement or a slow day they are in the server's log; with
--    pgAudit they are in the log always:
SELECT query LIKE '%pgp_sym_encrypt%' AS the_statement_is_there FROM pg_stat_activity WHERE pid = pg_backend_pid();

-- 2. Whoever may run statements as the application decrypts with the same key, and who has server and log has all of it.
-- 3. A value is bound to no row: moved to another patient's, it opens as that patient's.
UPDATE example_patient_data SET encrypted_dob = encrypted_ssn;
SELECT pgp_sym_decrypt(encrypted_dob, 'encryption_key') AS a_number_where_a_date_was FROM example_patient_data;

-- 4. One key for all, for ever: nothing can be rotated or shredded by month, organisation or purpose.
--
-- Lazaret seals with AES-256-GCM before it speaks to the database. Table, column, row, organisation and key are part of what is
-- authenticated, so a moved value does not open; the keys never come near the server.
