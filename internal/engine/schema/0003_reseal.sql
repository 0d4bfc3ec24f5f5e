-- How far sealing anew is: a row from its beginning to its end, moved in the transaction of each batch.
CREATE TABLE reseal (
    organisation BIGINT NOT NULL PRIMARY KEY,
    stage        BIGINT NOT NULL,
    queue        BIGINT NOT NULL,
    number       BIGINT NOT NULL,
    looked       BIGINT NOT NULL,
    changed      BIGINT NOT NULL
);
