-- +goose Up
DROP INDEX events_recipient;
CREATE INDEX events_recipient ON events (part, recipient, ts);

-- +goose Down
DROP INDEX events_recipient;
CREATE INDEX events_recipient ON events (recipient, ts);
