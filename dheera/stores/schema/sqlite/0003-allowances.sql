-- Allowances: what each key, user, team, member of a team, end user, and the whole proxy may still take. Kept by dheera, and
-- open to be read by anybody who may read this file.
--
-- Budgets are in nano-dollars, times in microseconds since 1970-01-01T00:00:00Z by the clock of this machine. Booleans are
-- 0 and 1. How budgets stand, as people read it:
--
--     select subject, span, model, used / 1e9 as used, held / 1e9 as held, cap / 1e9 as cap from allowances
--     where kind = 'usd' order by subject, span, model, starts_us;


-- What was taken: one row for each window of a budget, and for each five seconds of a rate. Requests at the same time are
-- in a row that starts at 0.
create table allowances (
    subject   text    not null,                    -- key/ID, user/ID, team/ID, member/TEAM/USER, customer/ID, proxy
    kind      text    not null,                    -- usd, requests, tokens, parallel
    span      text    not null,                    -- of a budget: after which it begins anew; '': never
    model     text    not null,                    -- name or pattern; '': all
    starts_us integer not null,                    -- 0: always
    ends_us   integer not null,                    -- when it counts no longer; 0: never
    used      integer not null,                    -- for good
    held      integer not null,                    -- by calls that are not over, or not yet in the ledger
    cap       integer not null,                    -- when it was last claimed
    soft      integer,                             -- somebody is told when so much is spent
    told      integer not null,                    -- 1: somebody was, that calls are refused
    primary key (subject, kind, span, model, starts_us)
) without rowid;

-- What counts no longer, to forget it.
create index allowances_over on allowances (kind, ends_us) where ends_us > 0;
-- Rows that may stand for nothing.
create index allowances_idle on allowances (kind) where kind = 'parallel';


-- What each call holds of budgets, and of requests at the same time.
create table holds (
    call_id     text    not null,                  -- as in the ledger
    subject     text    not null,                  -- these five name a row of allowances
    kind        text    not null,
    span        text    not null,
    model       text    not null,
    starts_us   integer not null,
    amount      integer not null,                  -- the most that it may cost; once it is over, what it cost
    owner       text    not null,                  -- the process that serves it, from its start to its end
    deadline_us integer not null,                  -- it is ended then, unless the owner lives
    released    integer not null,                  -- 1: the call is over
    expired     integer not null,                  -- 1: the deadline is past, and the amount counts as used
    primary key (call_id, subject, kind, span, model)
) without rowid;

-- What is due to be ended; and what has been ended for long enough to be forgotten. What a process holds is found here too:
-- it is rarely asked for, and there are no more such rows than calls under way.
create index holds_deadline on holds (expired, deadline_us);
