-- The directory: who may call what. Kept by dheera, and open to be read by anybody who may read these tables.
--
-- Amounts are whole nano-dollars: 1 US dollar is 1000000000. Texts are compared byte by byte (collation C), as SQLite does
-- it, so that lists come in the same order everywhere.
--
-- `document` is the whole entity as JSON, with amounts as texts in dollars; not jsonb, which has no \u0000. Where there is
-- a column for a field, the column is the truth, and what the document says of that field is not read. So one may change
-- a column by hand:
--
--     update keys set blocked = true, version = version + 1 where alias = 'ci';
--     notify dheera_changes, '{"kind": "", "id": ""}';
--
-- The second line tells the running dheeras to look again; without it they go on with what they remember, for a while.


-- Virtual keys. A deleted one stays, since the ledger names it.
create table keys (
    id              text        collate "C" primary key,      -- stays the same when the key is regenerated
    version         bigint      not null,                     -- how often it was changed
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    digest          text        collate "C" not null,         -- SHA-256, in hexadecimal, of the key in force; the key itself is nowhere
    name            text        collate "C" not null,         -- as it may be shown: sk-... and four characters
    alias           text        collate "C",                  -- what people call it
    user_id         text        collate "C",                  -- a user, who need not be in our table
    team_id         text        collate "C",                  -- a team, likewise
    organization_id text        collate "C",
    budget_id       text        collate "C",
    key_type        text        collate "C" not null,
    blocked         boolean     not null,
    expires_at      timestamptz,                              -- null: never
    deleted_at      timestamptz,                              -- null: it lives
    deleted_by      text        collate "C",                  -- who deleted it, as the audit names them
    spend           bigint      not null,                     -- nano-dollars
    document        json        not null
);

-- No two keys that live have the same alias.
create unique index keys_alias on keys (alias) where deleted_at is null;
-- List of keys, and their number.
create index keys_living on keys (created_at desc, id) where deleted_at is null;
-- List of deleted keys.
create index keys_deleted on keys (created_at desc, id) where deleted_at is not null;
-- The key with a digest, as clients of the API may name keys.
create index keys_digest on keys (digest);
-- Keys of one user, team, organization or budget; to list them, and to retire them.
create index keys_user on keys (user_id, created_at desc, id) where deleted_at is null and user_id is not null;
create index keys_team on keys (team_id, created_at desc, id) where deleted_at is null and team_id is not null;
create index keys_organization on keys (organization_id, created_at desc, id)
    where deleted_at is null and organization_id is not null;
create index keys_budget on keys (budget_id, created_at desc, id) where deleted_at is null and budget_id is not null;


-- What opens a key: the digest in force, and those that live on after a rotation.
create table digests (
    digest text        collate "C" primary key,               -- SHA-256 in hexadecimal
    key_id text        collate "C" not null references keys,
    until  timestamptz                                        -- opens nothing from then on; null: it is the one in force
);

-- The digests of a key, to end them.
create index digests_key on digests (key_id);


-- People who own keys.
create table users (
    id         text        collate "C" primary key,
    version    bigint      not null,                          -- as in keys, here and below
    created_at timestamptz not null,
    updated_at timestamptz not null,
    alias      text        collate "C",
    email      text        collate "C",
    role       text        collate "C",
    spend      bigint      not null,                          -- nano-dollars, here and below
    document   json        not null
);

-- List of users.
create index users_created on users (created_at desc, id);


-- People who share keys and limits.
create table teams (
    id              text        collate "C" primary key,
    version         bigint      not null,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    alias           text        collate "C",
    organization_id text        collate "C",
    blocked         boolean     not null,                     -- the keys of a blocked team open nothing
    spend           bigint      not null,
    document        json        not null
);

-- List of teams.
create index teams_created on teams (created_at desc, id);


-- End users, whom the programs of developers name in their calls.
create table customers (
    id         text        collate "C" primary key,
    version    bigint      not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    alias      text        collate "C",
    blocked    boolean     not null,
    budget_id  text        collate "C",
    spend      bigint      not null,
    document   json        not null
);

-- List of customers.
create index customers_created on customers (created_at desc, id);


-- Limits with a name.
create table budgets (
    id         text        collate "C" primary key,
    version    bigint      not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    spend      bigint      not null,
    document   json        not null
);

-- List of budgets.
create index budgets_created on budgets (created_at desc, id);


-- Who did what. Lines are added, and never changed.
create table audit (
    id       text        collate "C" primary key,             -- UUIDv7: ordered by time
    at       timestamptz not null,
    actor    text        collate "C" not null,                -- the master key, or the alias of a key
    action   text        collate "C" not null,                -- key.generate, team.block
    kind     text        collate "C" not null,                -- of what it was done to: key, team
    subject  text        collate "C" not null,                -- the id of what it was done to
    document json        not null                             -- the line as JSON: also where from, and what was there before and after
);

-- The latest lines.
create index audit_at on audit (at desc, id);
-- What happened to one entity.
create index audit_subject on audit (kind, subject, at desc, id);
-- What one caller did.
create index audit_actor on audit (actor, at desc, id);
