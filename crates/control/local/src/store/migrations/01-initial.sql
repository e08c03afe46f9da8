-- One number, counted up at every change of a record, so that a revision is never used again.
CREATE TABLE revision (last INTEGER NOT NULL) STRICT;
INSERT INTO revision VALUES (0);

-- Groups, clusters, node pools and operations.
CREATE TABLE record (
    kind     TEXT    NOT NULL,
    path     TEXT    NOT NULL,
    revision INTEGER NOT NULL,
    body     TEXT    NOT NULL,
    PRIMARY KEY (kind, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE node (
    name TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE pod (
    uid     TEXT NOT NULL PRIMARY KEY,
    cluster TEXT NOT NULL,
    name    TEXT NOT NULL,
    body    TEXT NOT NULL,
    UNIQUE (cluster, name)
) STRICT, WITHOUT ROWID;

-- Who holds which device. The primary key is the promise: a device has one holder.
CREATE TABLE assignment (
    node      TEXT NOT NULL REFERENCES node (name),
    device    TEXT NOT NULL,
    resource  TEXT NOT NULL,
    pod       TEXT NOT NULL REFERENCES pod (uid),
    container TEXT NOT NULL,
    PRIMARY KEY (node, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX assignment_by_pod ON assignment (pod);
