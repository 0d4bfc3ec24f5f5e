-- The one line of numbers of a database, and the size and right edge of the audit tree (which package audit reads).
-- Whoever writes locks this row until the commit, so numbers have no gaps and become visible in their order.
CREATE TABLE line (
    id        BIGINT PRIMARY KEY CHECK (id = 1),
    next      BIGINT NOT NULL,
    tree_size BIGINT NOT NULL,
    tree      BYTEA NOT NULL
);
INSERT INTO line (id, next, tree_size, tree) VALUES (1, 1, 0, '');
