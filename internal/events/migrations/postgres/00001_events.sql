-- +goose Up

-- Columns repeat what a document says, in lower case, so that it can be asked
-- for. What is not known is '' or -1, never NULL. The document is text and not
-- jsonb, so that it stays as the log has it.
CREATE TABLE events (
    ts               bigint   NOT NULL, -- microseconds since 1970
    id               text     COLLATE "C" NOT NULL,
    event            text     COLLATE "C" NOT NULL,
    severity         text     COLLATE "C" NOT NULL,
    sender           text     COLLATE "C" NOT NULL,
    sender_domain    text     COLLATE "C" NOT NULL,
    recipient        text     COLLATE "C" NOT NULL,
    recipient_domain text     COLLATE "C" NOT NULL,
    message_id       text     COLLATE "C" NOT NULL,
    queue_id         text     COLLATE "C" NOT NULL,
    reason           text     COLLATE "C" NOT NULL,
    tls              smallint NOT NULL, -- 1, 0
    verified         smallint NOT NULL, -- 1, 0
    mx_host          text     COLLATE "C" NOT NULL,
    size             bigint   NOT NULL,
    subject          text     COLLATE "C" NOT NULL,
    tags             text     COLLATE "C" NOT NULL,
    list             text     COLLATE "C" NOT NULL,
    document         text     NOT NULL,
    -- What is included lets charts be drawn without reading documents.
    PRIMARY KEY (ts, id) INCLUDE (event, severity, sender_domain, tls, verified, reason, mx_host)
);

CREATE INDEX events_sender_domain ON events (sender_domain, ts);
CREATE INDEX events_recipient ON events (recipient, ts);
CREATE INDEX events_recipient_domain ON events (recipient_domain, ts);
CREATE INDEX events_message_id ON events (message_id);
CREATE INDEX events_queue_id ON events (queue_id);

-- +goose Down
DROP TABLE events;
