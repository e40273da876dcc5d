import type { Sql, TransactionSql } from "postgres";
import { within } from "../../platform/within.js";

/** A socket that failed closes at once; only a statement that was never sent, a bug, is waited for in vain. */
const closeWaitMs = 100;

type Work<T> = (tx: TransactionSql) => T | Promise<T>;

/** What the driver's statements are besides promises; its types leave it out. */
interface Statement extends Promise<unknown> {
  handler: (statement: Statement) => void;
  readonly reject: (error: unknown) => void;
}

interface Connection {
  readonly id: number;
}

/** One transaction: whether its connection is still the one it began on. */
class Life {
  isClosed = false;
  /** Of the first statement that got no answer from the server. */
  failure: unknown = null;
  private whenClosed = () => {};
  private readonly closing = new Promise<void>((resolve) => {
    this.whenClosed = resolve;
  });

  close(): void {
    this.isClosed = true;
    this.failure ??= Object.assign(new Error("the connection closed"), { code: "CONNECTION_CLOSED" });
    this.whenClosed();
  }

  /** Returns when COMMIT or ROLLBACK may be sent, and never when there is no connection to send them on. */
  async beforeEnd(): Promise<void> {
    if (this.failure && !this.isClosed) {
      // A failed socket says so first and closes later: what is sent between the two is never answered.
      await within(this.closing, closeWaitMs, () => {});
    }
    // The driver has failed the transaction when the connection closed; nobody waits for this any more.
    if (this.isClosed) await new Promise<never>(() => {});
  }
}

/**
 * Keeps the driver from sending a transaction's statements, its own COMMIT and ROLLBACK among them, after the
 * transaction's connection has closed. postgres 3.4.9 does send them: to a socket that is not there, which throws where
 * nobody can catch it and ends the process, or, when the connection has been opened again for somebody else, into the
 * middle of another transaction (its issues 1154, 1208 and 1216).
 *
 * A cursor of the driver (`.cursor()`) still has the first fault. In a transaction use DECLARE and FETCH.
 */
export class Transactions {
  /** Of each connection the last transaction that began on it. */
  private readonly lives = new Map<number, Life>();

  /** `onAnswer` is called when a statement in a transaction has been answered. */
  constructor(private readonly onAnswer: () => void = () => {}) {}

  /** For the driver's option of this name. */
  readonly onclose = (connectionId: number): void => {
    this.lives.get(connectionId)?.close();
    this.lives.delete(connectionId);
  };

  /** Replaces `begin`, which Drizzle's `transaction` uses too. */
  protect(client: Sql): Sql {
    const { begin, unsafe } = client as unknown as Record<"begin" | "unsafe", (...args: unknown[]) => unknown>;
    const protectedBegin = (...args: [string, Work<unknown>] | [Work<unknown>]) => {
      const [mode, work] = args.length === 2 ? args : (["", ...args] as const);
      const life = new Life();
      // Only to the statement that begins the transaction does the driver say which connection it got. It makes that
      // statement before `begin` returns.
      const hooked = (text: string, values: unknown[], options: { onexecute: (connection: Connection) => void }) =>
        unsafe(text, values, {
          ...options,
          onexecute: (connection: Connection) => {
            this.lives.set(connection.id, life);
            return options.onexecute(connection);
          },
        });
      Object.assign(client, { unsafe: hooked });
      try {
        return begin(mode, onLife(life, work, this.onAnswer));
      } finally {
        Object.assign(client, { unsafe });
      }
    };
    return Object.assign(client, { begin: protectedBegin }) as Sql;
  }
}

function onLife<T>(life: Life, work: Work<T>, onAnswer: () => void): Work<unknown> {
  return async (tx) => {
    try {
      const result = work(watched(life, tx, onAnswer));
      return await (Array.isArray(result) ? Promise.all(result) : result);
    } finally {
      await life.beforeEnd();
    }
  };
}

/** The same client, but its statements are rejected as soon as the connection is gone. */
function watched(life: Life, tx: TransactionSql, onAnswer: () => void): TransactionSql {
  const call = tx as unknown as (...args: unknown[]) => unknown;
  const { unsafe, savepoint } = tx as unknown as Record<"unsafe" | "savepoint", (...args: unknown[]) => unknown>;
  return Object.assign((...args: unknown[]) => watch(life, call(...args), onAnswer), tx, {
    unsafe: (...args: unknown[]) => watch(life, unsafe(...args), onAnswer),
    savepoint: (...args: [string, Work<unknown>] | [Work<unknown>]) =>
      args.length === 2
        ? savepoint(args[0], onLife(life, args[1], onAnswer))
        : savepoint(onLife(life, args[0], onAnswer)),
  }) as unknown as TransactionSql;
}

function watch(life: Life, made: unknown, onAnswer: () => void): unknown {
  // Names and lists of columns are made by the same call and are no promises.
  if (!(made instanceof Promise)) return made;
  const statement = made as Statement;
  const send = statement.handler;
  // The driver sends a statement when somebody waits for it, so that is the moment to look.
  statement.handler = () => {
    if (life.failure) {
      statement.reject(life.failure);
      return;
    }
    send(statement);
    statement.then(onAnswer, (error: Error) => {
      // Errors of the server leave the connection as it was.
      if (error.name !== "PostgresError") life.failure ??= error;
    });
  };
  return statement;
}
