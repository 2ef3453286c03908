-- +goose Up

-- Columns repeat what a document says, in lower case, so that it can be asked
-- for. What is not known is '' or -1, never NULL.
CREATE TABLE events (
    ts               INTEGER NOT NULL, -- microseconds since 1970
    id               TEXT    NOT NULL,
    event            TEXT    NOT NULL,
    severity         TEXT    NOT NULL,
    sender           TEXT    NOT NULL,
    sender_domain    TEXT    NOT NULL,
    recipient        TEXT    NOT NULL,
    recipient_domain TEXT    NOT NULL,
    message_id       TEXT    NOT NULL,
    queue_id         TEXT    NOT NULL,
    reason           TEXT    NOT NULL,
    tls              INTEGER NOT NULL, -- 1, 0
    verified         INTEGER NOT NULL, -- 1, 0
    mx_host          TEXT    NOT NULL,
    size             INTEGER NOT NULL,
    subject          TEXT    NOT NULL,
    tags             TEXT    NOT NULL,
    list             TEXT    NOT NULL,
    document         TEXT    NOT NULL
);

-- Order and identity: a document that comes again has the same values in all of
-- these. What follows the id lets charts be drawn without reading documents.
CREATE UNIQUE INDEX events_time ON events (ts, id, event, severity, sender_domain, tls, verified, reason, mx_host);
CREATE INDEX events_sender_domain ON events (sender_domain, ts);
CREATE INDEX events_recipient ON events (recipient, ts);
CREATE INDEX events_recipient_domain ON events (recipient_domain, ts);
CREATE INDEX events_message_id ON events (message_id);
CREATE INDEX events_queue_id ON events (queue_id);

-- +goose Down
DROP TABLE events;
