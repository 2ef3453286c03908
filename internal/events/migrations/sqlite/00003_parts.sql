-- +goose Up

-- Parts of the time, each with some 100,000 events: those from begins on, up to
-- where the next part begins. Indexes of what is different in every event begin
-- with the part, so that new events come to a few pages that are in memory, and
-- not to any page of an index that has grown for a month.
CREATE TABLE events_parts (
    begins INTEGER PRIMARY KEY, -- microseconds since 1970
    number INTEGER NOT NULL,    -- events.part
    fresh  INTEGER NOT NULL     -- events that came since it was cut
);
ALTER TABLE events ADD COLUMN part INTEGER NOT NULL DEFAULT 0;

-- All that is there is the first part; what comes now is the second.
INSERT INTO events_parts VALUES (-9223372036854775808, 0, 0);
INSERT INTO events_parts SELECT ts + 1, 1, 0 FROM events ORDER BY ts DESC LIMIT 1;

-- Statistics were made when there were fewer events, and mislead the planner.
DROP TABLE IF EXISTS sqlite_stat1;

-- +goose Down
ALTER TABLE events DROP COLUMN part;
DROP TABLE events_parts;
