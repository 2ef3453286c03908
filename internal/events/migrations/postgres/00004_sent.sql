-- +goose Up

-- How the text of a message left.
ALTER TABLE events ADD COLUMN content_sent text COLLATE "C" NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE events DROP COLUMN content_sent;
