import type { Route } from "../routes.js";
import { type Binding, bindingsOf } from "./binding.js";

/** What stands at the end of a path: by what follows the last colon, and by the method. */
type End = Map<string, Map<string, Target>>;

interface Target {
  readonly route: Route;
  readonly binding: Binding;
}

interface Node {
  readonly words: Map<string, Node>;
  /** For any segment. A node has words or this one, so there is one way to go on, and none to come back. */
  variable: Node | undefined;
  readonly end: End;
}

export interface Match extends Target {
  /** Of the path's variables, in their order, as they came: percent-encoded. */
  readonly values: readonly string[];
  /** Without the question mark. */
  readonly query: string;
}

/** A path that is served, but not with this method. */
export class OtherMethods {
  constructor(readonly allowed: readonly string[]) {}
}

const newNode = (): Node => ({ words: new Map(), variable: undefined, end: new Map() });

/** Finds the method that a path calls, in time that grows with the path's length alone. */
export class RestRoutes {
  private readonly root = newNode();
  private maxSegments = 0;

  /** Throws when two methods would have the same path. */
  constructor(routes: readonly Route[]) {
    for (const route of routes) {
      const { method } = route;
      if (method.methodKind === "unary") for (const binding of bindingsOf(method)) this.add({ route, binding });
    }
  }

  private add(target: Target): void {
    const { segments, action, verb, method } = target.binding;
    let node = this.root;
    for (const segment of segments) {
      if (typeof segment === "string") {
        const next = node.words.get(segment) ?? newNode();
        node.words.set(segment, next);
        if (node.variable) throw new Error(`the paths of ${method.name} and others are told apart by guessing only`);
        node = next;
      } else {
        node.variable ??= newNode();
        if (node.words.size > 0)
          throw new Error(`the paths of ${method.name} and others are told apart by guessing only`);
        node = node.variable;
      }
    }
    const methods = node.end.get(action) ?? new Map<string, Target>();
    if (methods.has(verb)) throw new Error(`${method.name} has the path of another method`);
    methods.set(verb, target);
    node.end.set(action, methods);
    this.maxSegments = Math.max(this.maxSegments, segments.length);
  }

  /** `url`: as it came. undefined: there is nothing at this path. */
  match(verb: string, url: string): Match | OtherMethods | undefined {
    const queryAt = url.indexOf("?");
    const path = queryAt < 0 ? url : url.slice(0, queryAt);
    if (!path.startsWith("/")) return undefined;
    const segments = path.slice(1).split("/", this.maxSegments + 1);
    const last = segments.pop() as string;
    const values: string[] = [];
    let node: Node | undefined = this.root;
    for (const segment of segments) {
      node = next(node, segment, values);
      if (!node) return undefined;
    }
    const methods = this.atEnd(node, last, values);
    if (!methods) return undefined;
    const target = methods.get(verb === "HEAD" ? "GET" : verb);
    if (!target) return new OtherMethods([...methods.keys()].flatMap((one) => (one === "GET" ? ["GET", "HEAD"] : one)));
    return { ...target, values, query: queryAt < 0 ? "" : url.slice(queryAt + 1) };
  }

  /** The action is what follows the last colon, if there is such an action; texts may have colons of their own. */
  private atEnd(node: Node, segment: string, values: string[]): Map<string, Target> | undefined {
    const colonAt = segment.lastIndexOf(":");
    if (colonAt > 0) {
      const before = segment.slice(0, colonAt);
      const end = (node.words.get(before) ?? node.variable)?.end.get(segment.slice(colonAt + 1));
      if (end) {
        if (!node.words.has(before)) values.push(before);
        return end;
      }
    }
    return next(node, segment, values)?.end.get("");
  }
}

function next(node: Node, segment: string, values: string[]): Node | undefined {
  const word = node.words.get(segment);
  if (word) return word;
  if (!node.variable || segment === "") return undefined;
  values.push(segment);
  return node.variable;
}
