export interface Paint {
  bold(text: string): string;
  dim(text: string): string;
  green(text: string): string;
  red(text: string): string;
  cyan(text: string): string;
}

/** Colours for a terminal, or none for everything else and for people who set NO_COLOR. */
export function paintFor(colours: boolean): Paint {
  const style = (code: number) => (text: string) => (colours ? `\u001b[${code}m${text}\u001b[0m` : text);
  return { bold: style(1), dim: style(2), green: style(32), red: style(31), cyan: style(36) };
}
