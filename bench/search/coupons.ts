import type postgres from "postgres";
import { median } from "../support/numbers.js";

/** One statement each, so that the time of one is bounded. */
const chunk = 20_000;
/** Words of which names and descriptions are made, and categories. The n-th is about 1/n times as frequent as the first. */
const vocabularySize = 20_000;
const categoryCount = 200;
const firstCategory = 100;

const syllables = [..."bcdfghklmnp"].flatMap((consonant) => [..."aeo"].map((vowel) => consonant + vowel));
const endings = ["", "n", "r", "s"];

/** The n-th most frequent word: three syllables, no two words the same, in an order that has nothing of the alphabet. */
export function wordAt(n: number): string {
  const m = (n * 7919) % vocabularySize;
  return [m % 25, Math.floor(m / 25) % 25, Math.floor(m / 625)].map((at) => syllables[at]).join("") + endings[m % 4];
}

/** The same in SQL. */
const wordFunction = `
  CREATE FUNCTION pg_temp.word(n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT s[m % 25 + 1] || s[m / 25 % 25 + 1] || s[m / 625 + 1] || ('{"",n,r,s}'::text[])[m % 4 + 1]
    FROM (SELECT n * 7919 % ${vocabularySize} AS m, '{${syllables}}'::text[] AS s) one
  $$`;

/** The n-th most frequent category, give or take a few. */
export function categoryAt(n: number): string {
  return wordAt(firstCategory + n);
}

/**
 * Coupons as a marketplace has them, the same at every run: names of two to four words, descriptions of 14 to 24, a third
 * of them ended. A word that only coupons older than the newest half have is among them, as "christmas" is in summer.
 */
export async function fillCatalogue(
  sql: postgres.Sql,
  coupons: number,
  progress: (done: number) => void,
): Promise<void> {
  await sql`SET statement_timeout = 0`;
  await sql`SELECT setseed(0.42)`;
  await sql.unsafe(wordFunction);
  // Made at the end, all at once, which takes a third of the time.
  const indexes = await sql`
    SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'coupon_search' AND indexdef LIKE '% USING gin %'`;
  for (const { indexname } of indexes) await sql`DROP INDEX ${sql(indexname)}`;
  for (let from = 0; from < coupons; from += chunk) {
    await sql`
      INSERT INTO coupons (id, name, description, category, percentage_basis_points, fixed_amount, currency_code, starts_at,
        expires_at, max_per_user, stackable, created_at, updated_at, type)
      SELECT
        (lpad(to_hex(1740000000000 + i * 20000), 12, '0') || '7' || substr(md5(i::text), 1, 3) || '8'
          || substr(md5(i::text), 4, 15))::uuid,
        initcap((SELECT string_agg(pg_temp.word(floor(${vocabularySize} ^ random())::int + n * 0), ' ')
          FROM generate_series(1, 2 + (random() * 2)::int + (i * 0)::int) n)),
        (SELECT string_agg(pg_temp.word(floor(${vocabularySize} ^ random())::int + n * 0), ' ')
          FROM generate_series(1, 14 + (random() * 10)::int + (i * 0)::int) n)
          || CASE WHEN i < ${coupons} / 2 AND random() < 0.1 THEN ' christmas' ELSE '' END,
        initcap(pg_temp.word(${firstCategory} + floor(${categoryCount} ^ random())::int)),
        CASE WHEN i % 3 > 0 THEN 1000 END, CASE WHEN i % 3 = 0 THEN 500 END, CASE WHEN i % 3 = 0 THEN 'USD' END,
        now() - interval '400 days', now() + (random() - 0.33) * interval '300 days', 1, false, now(), now(),
        (ARRAY['FREE', 'STANDARD', 'MEGADEAL', NULL])[1 + (i % 11) % 4]
      FROM generate_series(${from}::bigint + 1, ${from}::bigint + ${Math.min(chunk, coupons - from)}) i`;
    progress(Math.min(from + chunk, coupons));
  }
  await sql`SET maintenance_work_mem = '256MB'`;
  for (const { indexdef } of indexes) await sql.unsafe(indexdef);
  await sql`VACUUM ANALYZE coupon_search`;
  await sql`VACUUM ANALYZE coupons`;
  await sql`VACUUM ANALYZE search_words`;
}

/** How long one statement takes that adds 1,000 coupons, in ms: medians with the search and without it. */
export async function timeOfAdding(sql: postgres.Sql): Promise<{ withSearch: number; without: number }> {
  const rounds = 9;
  const medianOf = async (trigger: "ENABLE" | "DISABLE") => {
    const times: number[] = [];
    for (let round = 0; round < rounds; round += 1) {
      await sql.begin(async (tx) => {
        await tx.unsafe(`ALTER TABLE coupons ${trigger} TRIGGER coupons_search_created`);
        // As if they were new ones: others' texts under new ids.
        await tx`CREATE TEMP TABLE added ON COMMIT DROP AS SELECT * FROM coupons ORDER BY id DESC OFFSET ${round * 1_000} LIMIT 1000`;
        await tx`UPDATE added SET id = gen_random_uuid()`;
        const begin = performance.now();
        await tx`INSERT INTO coupons SELECT * FROM added`;
        times.push(performance.now() - begin);
        await tx.unsafe("ALTER TABLE coupons ENABLE TRIGGER coupons_search_created");
      });
    }
    return median(times);
  };
  return { withSearch: await medianOf("ENABLE"), without: await medianOf("DISABLE") };
}
