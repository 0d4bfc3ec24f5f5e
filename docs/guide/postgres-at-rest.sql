-- PostgreSQL TDE (Transparent Data Encryption)
-- Enable encryption for the entire database
CREATE DATABASE healthcare_integration WITH ENCRYPTION;
-- Encrypt specific columns
CREATE TABLE patient_data (
    id UUID PRIMARY KEY,
    encrypted_ssn BYTEA, -- Store encrypted SSN
    encrypted_dob BYTEA -- Store encrypted date of birth
);
-- Use pgcrypto for column-level encryption
CREATE EXTENSION pgcrypto;
-- Insert encrypted data
INSERT INTO patient_data (id, encrypted_ssn, encrypted_dob)
VALUES (
    gen_random_uuid(),
    pgp_sym_encrypt('123-45-6789', 'encryption_key'),
    pgp_sym_encrypt('1980-01-01', 'encryption_key')
);
