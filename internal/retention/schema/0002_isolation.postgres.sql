-- Holds name patients and cases, sealed; so they lie behind the same wall as messages (engine's 0004_isolation).
CREATE POLICY organisation ON legal_hold USING (organisation = (SELECT nullif(current_setting('lazaret.organisation', true), '')::bigint)
    OR (SELECT current_setting('lazaret.organisation', true)) = '0');
ALTER TABLE legal_hold ENABLE ROW LEVEL SECURITY;
