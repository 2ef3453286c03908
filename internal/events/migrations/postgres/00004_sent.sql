-- +goose Up

-- How the text of a message left. Those whose text left in clear have indexes of
-- their own: whoever asks for them wants the few among many. The second is for keys
-- of one domain.
ALTER TABLE events ADD COLUMN content_sent text COLLATE "C" NOT NULL DEFAULT '';
CREATE INDEX events_clear ON events (ts, id) WHERE content_sent = 'clear';
CREATE INDEX events_sender_domain_clear ON events (sender_domain, ts, id) WHERE content_sent = 'clear';

-- +goose Down
DROP INDEX events_sender_domain_clear;
DROP INDEX events_clear;
ALTER TABLE events DROP COLUMN content_sent;
