-- The index of a store, version 1. All but `reference`, `image` and `manifest` can be derived from the files beside it.

-- Numbers that are never handed out twice.
CREATE TABLE counter (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO counter VALUES ('ingest', 0), ('session', 0), ('tree', 0);

-- One distinct file content: objects/<id >> 24>/<id & 0xffffff>.
CREATE TABLE object (
    id        INTEGER PRIMARY KEY,
    hash      BLOB NOT NULL,                -- BLAKE3, 32 bytes
    size      INTEGER NOT NULL,             -- bytes of content
    disk      INTEGER NOT NULL,             -- bytes that the file system allots to it
    claim     BLOB,                         -- hardlink placement: key of the node that this inode's metadata serves
    condemned INTEGER                       -- collected: newest session that may still come to refer to it
);
-- Eight bytes find the candidates; the whole hash is then compared. A full-width index would double the table.
CREATE INDEX object_by_hash ON object (substr(hash, 1, 8)) WHERE condemned IS NULL;
CREATE INDEX object_condemned ON object (condemned) WHERE condemned IS NOT NULL;

-- One layer: record in layers/<id>, new objects of its ingest in objects/<id>.
CREATE TABLE layer (
    id      INTEGER PRIMARY KEY,
    diff_id TEXT NOT NULL UNIQUE,
    size    INTEGER NOT NULL,               -- bytes of the tar
    boot    TEXT                            -- boot since which it is unsettled; NULL: known to be on disk
);
CREATE TABLE layer_object (
    layer  INTEGER NOT NULL REFERENCES layer ON DELETE CASCADE,
    object INTEGER NOT NULL REFERENCES object,
    PRIMARY KEY (layer, object)
) WITHOUT ROWID;
CREATE INDEX layer_by_object ON layer_object (object);

-- A compressed blob that was seen, checked, to hold a layer: what saves fetching it again.
CREATE TABLE blob (
    digest TEXT PRIMARY KEY,
    layer  INTEGER NOT NULL REFERENCES layer ON DELETE CASCADE
) WITHOUT ROWID;

-- Layers that a running pull relies on before its image names them; void once the session's lock is free.
CREATE TABLE pin (
    session INTEGER NOT NULL,
    layer   INTEGER NOT NULL REFERENCES layer ON DELETE CASCADE,
    PRIMARY KEY (session, layer)
) WITHOUT ROWID;

-- An image is its config; `id` is the config's digest.
CREATE TABLE image (
    id       TEXT PRIMARY KEY,
    config   BLOB NOT NULL,
    chain_id TEXT NOT NULL,
    logical  INTEGER NOT NULL,              -- bytes of the regular files of the merged tree
    files    INTEGER NOT NULL,              -- entries of the merged tree
    stored   INTEGER NOT NULL               -- when it came, seconds since 1970
) WITHOUT ROWID;
CREATE TABLE image_layer (
    image    TEXT NOT NULL REFERENCES image ON DELETE CASCADE,
    position INTEGER NOT NULL,
    diff_id  TEXT NOT NULL,
    PRIMARY KEY (image, position)
) WITHOUT ROWID;
CREATE TABLE manifest (
    digest     TEXT PRIMARY KEY,
    image      TEXT NOT NULL REFERENCES image ON DELETE CASCADE,
    media_type TEXT NOT NULL,
    bytes      BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE reference (
    name     TEXT PRIMARY KEY,              -- canonical: docker.io/library/debian:12
    image    TEXT NOT NULL REFERENCES image ON DELETE CASCADE,
    manifest TEXT                           -- digest that the registry gave for it, if it came from one
) WITHOUT ROWID;

-- A checkout: trees/<id>/root.
CREATE TABLE tree (
    id        INTEGER PRIMARY KEY,
    chain_id  TEXT NOT NULL,
    placement TEXT NOT NULL,                -- 'stub'; 'stub 1000:1000' where the caller has these ids inside
    lost      TEXT NOT NULL,                -- JSON: what of the image's metadata could not be made here
    UNIQUE (chain_id, placement)
);

-- The layers that a checkout shows: what keeps them while a container runs from an image that was removed.
CREATE TABLE tree_layer (
    tree  INTEGER NOT NULL REFERENCES tree ON DELETE CASCADE,
    layer INTEGER NOT NULL REFERENCES layer ON DELETE CASCADE,
    PRIMARY KEY (tree, layer)
) WITHOUT ROWID;
