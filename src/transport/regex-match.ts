const compiled = new Map<string, RegExp>();

/**
 * Matches the patterns of the proto files. protovalidate's own engine guards against patterns that take exponential time;
 * ours are few, fixed and simple, and V8 matches them many times faster.
 */
export function regexMatch(pattern: string, against: string): boolean {
  let regex = compiled.get(pattern);
  if (!regex) {
    regex = new RegExp(pattern, "u");
    compiled.set(pattern, regex);
  }
  return regex.test(against);
}
