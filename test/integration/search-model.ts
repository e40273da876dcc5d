import type { CouponQuery } from "../../src/storage/ports/search.js";
import type { SearchedCoupon } from "./search-world.js";

/** What SearchCoupons promises, said once more without a database, for texts of ASCII. */

const maxWords = 8;
const maxAlike = 3;
const leastSimilarity = Math.fround(0.3);

const wordsOf = (text: string): string[] => text.toLowerCase().match(/[a-z0-9]+/g) ?? [];
const allWordsOf = ({ name, category, description }: SearchedCoupon) => wordsOf(`${name} ${category} ${description}`);

/** `known`: every word that any coupon ever had. */
export function searchModel(
  coupons: readonly SearchedCoupon[],
  known: ReadonlySet<string>,
  query: CouponQuery,
  now: Date,
): { ids: string[]; correctedQuery: string } {
  const there = coupons.filter((one) => !one.deletedAt && !one.isTypePool);
  const typed = [...new Set(wordsOf(query.words).slice(0, maxWords))];
  const occurs = (word: string) => [...known].some((other) => other.startsWith(word));
  const found = find(there, known, query, now, typed, occurs);
  if (found === null || found.ids.length > 0) return found ?? { ids: [], correctedQuery: "" };
  const live = new Set(there.flatMap(allWordsOf));
  const occursNow = (word: string) => [...live].some((other) => other.startsWith(word));
  const isDropped = (word: string) => occurs(word) && !occursNow(word);
  if (!typed.some(isDropped)) return found;
  return (
    find(there, known, query, now, typed, (word) => occurs(word) && !isDropped(word)) ?? { ids: [], correctedQuery: "" }
  );
}

function find(
  coupons: readonly SearchedCoupon[],
  known: ReadonlySet<string>,
  query: CouponQuery,
  now: Date,
  typed: readonly string[],
  occurs: (word: string) => boolean,
) {
  const lookedFor: string[] = [];
  const matchers: ((word: string) => boolean)[] = [];
  for (const word of typed) {
    if (occurs(word)) {
      lookedFor.push(word);
      matchers.push((other) => other.startsWith(word));
      continue;
    }
    const alike = mostAlike(word, known);
    if (alike.length === 0) return null;
    lookedFor.push(alike[0]!);
    matchers.push((other) => alike.includes(other));
  }
  const hasAll = (words: readonly string[]) => matchers.every((matches) => words.some(matches));
  const left = coupons.filter(
    (one) =>
      (query.withEnded || one.expiresAt > now) &&
      (query.category === "" || one.category.toLowerCase() === query.category.toLowerCase()) &&
      (query.type === null || one.type === query.type) &&
      (query.discountKind === null || one.discountKind === query.discountKind),
  );
  const newestFirst = [...left].sort((a, b) => (a.id < b.id ? 1 : -1));
  const inName = newestFirst.filter((one) => hasAll(wordsOf(one.name)));
  const elsewhere = newestFirst.filter((one) => !hasAll(wordsOf(one.name)) && hasAll(allWordsOf(one)));
  return {
    ids: [...inName, ...elsewhere].map(({ id }) => id),
    correctedQuery: lookedFor.join() === typed.join() ? "" : [...new Set(lookedFor)].join(" "),
  };
}

function mostAlike(word: string, known: ReadonlySet<string>): string[] {
  return [...known]
    .filter((other) => !/[0-9]/.test(other) && !other.startsWith(word))
    .map((other) => ({ other, similarity: similarityOf(word, other) }))
    .filter(({ similarity }) => similarity >= leastSimilarity)
    .sort((a, b) => b.similarity - a.similarity || (a.other < b.other ? -1 : 1))
    .slice(0, maxAlike)
    .map(({ other }) => other);
}

/** As pg_trgm has it: of the groups of three letters in either word, the share that is in both. */
function similarityOf(a: string, b: string): number {
  const [ofA, ofB] = [trigramsOf(a), trigramsOf(b)];
  const shared = [...ofA].filter((trigram) => ofB.has(trigram)).length;
  return Math.fround(shared / (ofA.size + ofB.size - shared));
}

function trigramsOf(word: string): Set<string> {
  const padded = `  ${word} `;
  return new Set(Array.from({ length: padded.length - 2 }, (_, at) => padded.slice(at, at + 3)));
}
