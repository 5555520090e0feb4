-- Version 2: contents that are in no file of their own but in packs/<pack>; `object.disk` is then their share of it.
CREATE TABLE packed (
    object INTEGER PRIMARY KEY REFERENCES object ON DELETE CASCADE,
    pack   INTEGER NOT NULL,
    frame  INTEGER NOT NULL,                -- where in the pack its frame begins
    offset INTEGER NOT NULL                 -- where in the decompressed frame it begins
);
