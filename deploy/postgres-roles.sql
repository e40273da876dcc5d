-- Three roles of Postgres, so that nobody may do more than they need:
--
--   coupon_migrate  owns the tables and functions, and changes them: the command `migrate`
--   coupon_serve    reads and writes rows, and calls the functions: the service, with MIGRATE=check
--   coupon_read     reads what dashboards show: no codes that may be worth money, no hashes of keys, no request ids
--
-- Run it in the service's database (which must be one of its own), as a superuser, or as the owner of the database with CREATEROLE:
--
--   psql --single-transaction --set ON_ERROR_STOP=1 --dbname coupons --file postgres-roles.sql
--
-- It may be run again; do so after an upgrade that adds tables or columns which coupon_read should see. In a database that is in
-- use, whoever owned the tables becomes a member of coupon_migrate, so replicas that run as that user go on. When none is
-- left: REVOKE coupon_migrate FROM that_user;
--
-- Nobody logs in as these roles. Give each program a user of its own, and to rotate its password make a second one:
--
--   CREATE ROLE shop_migrate LOGIN PASSWORD '...' IN ROLE coupon_migrate;
--   ALTER ROLE shop_migrate SET role = 'coupon_migrate';   -- what it makes belongs to the role, and not to the user
--   CREATE ROLE shop_serve LOGIN PASSWORD '...' IN ROLE coupon_serve;

-- Whoever waits for the lock of a table holds up all who come behind.
SET lock_timeout = '1500ms';

DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['coupon_migrate', 'coupon_serve', 'coupon_read'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
      EXECUTE format('CREATE ROLE %I', name);
    END IF;
  END LOOP;
  -- One who is no superuser hands out rights of this role below.
  IF NOT pg_has_role('coupon_migrate', 'USAGE') THEN
    EXECUTE format('GRANT coupon_migrate TO %I', current_user);
  END IF;
  EXECUTE format('REVOKE CREATE, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO coupon_migrate, coupon_serve, coupon_read', current_database());
  -- For the schemas of releases, and the extension pg_trgm.
  EXECUTE format('GRANT CREATE, TEMPORARY ON DATABASE %I TO coupon_migrate', current_database());
END
$$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO coupon_migrate;
GRANT USAGE ON SCHEMA public TO coupon_serve, coupon_read;
-- What tells which migrations were done.
CREATE SCHEMA IF NOT EXISTS drizzle;

-- What is there already gets its new owner.
DO $$
DECLARE
  of_ours CONSTANT text := '^(public|drizzle|coupon_fn_[0-9a-f]{12})$';
  one record;
  former text;
BEGIN
  FOR one IN
    SELECT d.owner, d.statement FROM (
      SELECT 1 AS step, nspname AS schema, nspowner AS owner, 0::oid AS id, format('SCHEMA %I', nspname) AS statement
      FROM pg_namespace WHERE nspname <> 'public'
      UNION ALL
      -- The sequence of a column goes with its table.
      SELECT 2, n.nspname, c.relowner, c.oid,
        format('%s %I.%I', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, n.nspname, c.relname)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p', 'v', 'S')
        AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND classid = 'pg_class'::regclass AND deptype IN ('a', 'i') AND c.relkind = 'S')
      UNION ALL
      SELECT 3, n.nspname, p.proowner, p.oid, format('ROUTINE %s', p.oid::regprocedure)
      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    ) d
    WHERE d.schema ~ of_ours AND d.owner <> 'coupon_migrate'::regrole
      AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = d.id AND deptype = 'e')
    ORDER BY d.step
  LOOP
    former := pg_get_userbyid(one.owner);
    IF NOT pg_has_role(one.owner, 'coupon_migrate', 'USAGE') THEN
      EXECUTE format('GRANT coupon_migrate TO %I', former);
    END IF;
    EXECUTE format('ALTER %s OWNER TO coupon_migrate', one.statement);
  END LOOP;
END
$$;

-- What serves: what is there, and what later migrations will make.
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO coupon_serve;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO coupon_serve;
GRANT USAGE ON SCHEMA drizzle TO coupon_serve;
GRANT SELECT ON ALL TABLES IN SCHEMA drizzle TO coupon_serve;
ALTER DEFAULT PRIVILEGES FOR ROLE coupon_migrate IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO coupon_serve;
ALTER DEFAULT PRIVILEGES FOR ROLE coupon_migrate IN SCHEMA public GRANT USAGE ON SEQUENCES TO coupon_serve;
ALTER DEFAULT PRIVILEGES FOR ROLE coupon_migrate IN SCHEMA drizzle GRANT SELECT ON TABLES TO coupon_serve;
-- Functions that are there. A dump that was restored without its grants has let nobody but the owner into their schemas.
DO $$
DECLARE
  name text;
BEGIN
  FOR name IN SELECT nspname FROM pg_namespace WHERE nspname ~ '^coupon_fn_[0-9a-f]{12}$' LOOP
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO coupon_serve', name);
    EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA %I TO coupon_serve', name);
  END LOOP;
END
$$;
-- The functions of a release are in a schema of their own, so these have to hold in any.
ALTER DEFAULT PRIVILEGES FOR ROLE coupon_migrate REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE coupon_migrate GRANT EXECUTE ON FUNCTIONS TO coupon_serve;
-- By it a primary is told from one that was left behind.
DO $$
BEGIN
  GRANT EXECUTE ON FUNCTION pg_control_system() TO coupon_serve, coupon_migrate;
EXCEPTION WHEN insufficient_privilege THEN NULL;
END
$$;

-- What reads: named tables only, and of these no columns that could be used for more than looking. What a later migration makes
-- is not read before somebody has decided that it may be.
DO $$
DECLARE
  shown CONSTANT text[] := ARRAY['coupons', 'user_coupons', 'codes', 'code_jobs', 'code_sources', 'quota_days', 'usages', 'events', 'stats_snapshots'];
  hidden CONSTANT text[] := ARRAY['code', 'code_key', 'pick_key', 'pattern', 'lock_token', 'request_id'];
  one record;
BEGIN
  FOR one IN
    SELECT c.relname AS name, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) AS columns
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY (shown)
      AND a.attnum > 0 AND NOT a.attisdropped AND NOT a.attname = ANY (hidden)
    GROUP BY c.relname
  LOOP
    EXECUTE format('GRANT SELECT (%s) ON public.%I TO coupon_read', one.columns, one.name);
  END LOOP;
END
$$;
RESET lock_timeout;
