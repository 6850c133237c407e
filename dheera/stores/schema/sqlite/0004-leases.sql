-- Leases: one hold for many calls, which are paid out of it one by one as the ledger writes them. Its call_id is no call's.

alter table holds add column paid integer not null default 0;  -- of a lease: what calls have cost that are in the ledger
