-- Walls between organisations, held by the server: a transaction sees and writes rows of the organisation that it has set in
-- lazaret.organisation, and none while that is not set. 0 is every organisation, for a backup. A superuser, a role with BYPASSRLS
-- and the owner of the tables are not bound; so the service should be none of them (docs/sql/roles.sql).
--
-- The sub-select is evaluated once a statement, not once a row. Rows of tables that did not name their organisation get it from
-- the same setting, so that no statement needs to change; who has not set it can insert nothing.
ALTER TABLE content ADD COLUMN organisation BIGINT;
ALTER TABLE delivery ADD COLUMN organisation BIGINT;
ALTER TABLE attempt ADD COLUMN organisation BIGINT;
UPDATE content SET organisation = m.organisation FROM message m WHERE m.number = content.number;
UPDATE delivery SET organisation = c.organisation FROM queue q JOIN channel c ON c.number = q.channel WHERE q.number = delivery.queue;
UPDATE attempt SET organisation = c.organisation FROM queue q JOIN channel c ON c.number = q.channel WHERE q.number = attempt.queue;
ALTER TABLE content ALTER COLUMN organisation SET DEFAULT nullif(current_setting('lazaret.organisation', true), '')::bigint,
    ALTER COLUMN organisation SET NOT NULL;
ALTER TABLE delivery ALTER COLUMN organisation SET DEFAULT nullif(current_setting('lazaret.organisation', true), '')::bigint,
    ALTER COLUMN organisation SET NOT NULL;
ALTER TABLE attempt ALTER COLUMN organisation SET DEFAULT nullif(current_setting('lazaret.organisation', true), '')::bigint,
    ALTER COLUMN organisation SET NOT NULL;

CREATE POLICY organisation ON message USING (organisation = (SELECT nullif(current_setting('lazaret.organisation', true), '')::bigint)
    OR (SELECT current_setting('lazaret.organisation', true)) = '0');
CREATE POLICY organisation ON content USING (organisation = (SELECT nullif(current_setting('lazaret.organisation', true), '')::bigint)
    OR (SELECT current_setting('lazaret.organisation', true)) = '0');
CREATE POLICY organisation ON delivery USING (organisation = (SELECT nullif(current_setting('lazaret.organisation', true), '')::bigint)
    OR (SELECT current_setting('lazaret.organisation', true)) = '0');
CREATE POLICY organisation ON attempt USING (organisation = (SELECT nullif(current_setting('lazaret.organisation', true), '')::bigint)
    OR (SELECT current_setting('lazaret.organisation', true)) = '0');
CREATE POLICY organisation ON token_recent USING (organisation = (SELECT nullif(current_setting('lazaret.organisation', true), '')::bigint)
    OR (SELECT current_setting('lazaret.organisation', true)) = '0');
CREATE POLICY organisation ON token_bucket USING (organisation = (SELECT nullif(current_setting('lazaret.organisation', true), '')::bigint)
    OR (SELECT current_setting('lazaret.organisation', true)) = '0');
CREATE POLICY organisation ON token_run USING (organisation = (SELECT nullif(current_setting('lazaret.organisation', true), '')::bigint)
    OR (SELECT current_setting('lazaret.organisation', true)) = '0');
ALTER TABLE message ENABLE ROW LEVEL SECURITY;
ALTER TABLE content ENABLE ROW LEVEL SECURITY;
ALTER TABLE delivery ENABLE ROW LEVEL SECURITY;
ALTER TABLE attempt ENABLE ROW LEVEL SECURITY;
ALTER TABLE token_recent ENABLE ROW LEVEL SECURITY;
ALTER TABLE token_bucket ENABLE ROW LEVEL SECURITY;
ALTER TABLE token_run ENABLE ROW LEVEL SECURITY;
