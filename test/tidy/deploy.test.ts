import { describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { readConfig, settingNames } from "../../src/config.js";
import { read, repositoryFiles } from "./sources.js";

type Json = Record<string, unknown>;

/** Throws where a file is no YAML, has a key twice, or refers to an anchor that it does not have. */
function documentsOf(path: string): Json[] {
  return parseAllDocuments(read(path), { uniqueKeys: true }).map((document) => {
    if (document.errors[0]) throw document.errors[0];
    return document.toJS() as Json;
  });
}

const files = repositoryFiles().filter((path) => path.startsWith("deploy/") || path === "docker-compose.yml");
const yamlFiles = files.filter((path) => /\.ya?ml$/.test(path));
const manifests = yamlFiles.filter((path) => path.startsWith("deploy/kubernetes/")).flatMap(documentsOf);

/** Every object within a value, at whatever depth. */
function objectsIn(value: unknown): Json[] {
  if (typeof value !== "object" || value === null) return [];
  const inner = Object.values(value).flatMap(objectsIn);
  return Array.isArray(value) ? inner : [value as Json, ...inner];
}

const ofKind = (kind: string) => manifests.filter((one) => one.kind === kind);
const containersOf = (manifest: Json) =>
  objectsIn(manifest).flatMap(({ containers }) => (containers as Json[] | undefined) ?? []);
const deployment = ofKind("Deployment")[0] as Json;
const podSpec = (manifest: Json) => (manifest.spec as { template: { spec: Json } }).template.spec;
const settingsOfReplicas = Object.fromEntries(
  read("deploy/kubernetes/base/settings.env")
    .trim()
    .split("\n")
    .map((line) => line.split("=") as [string, string]),
);

test.for(yamlFiles)("%s is YAML", (path) => {
  expect(documentsOf(path).length).toBeGreaterThan(0);
});

describe("settings", () => {
  const environments = [...documentsOf("docker-compose.yml"), ...manifests].flatMap(objectsIn);
  const compose = (documentsOf("docker-compose.yml")[0] as { services: Record<string, Json> }).services;
  const inCompose = Object.keys(compose["coupon-service"]?.environment as Json);
  const inManifests = environments.flatMap(({ env }) =>
    Array.isArray(env) ? env.map(({ name }: Json) => name as string) : [],
  );
  const literals = environments.flatMap((one) =>
    Array.isArray(one.literals) ? one.literals.map((text: string) => text.split("=", 1)[0] as string) : [],
  );
  const all = [...inCompose, ...inManifests, ...literals, ...Object.keys(settingsOfReplicas)];

  test("each one that is set exists", () => {
    expect(all.length).toBeGreaterThan(10);
    expect(all.filter((name) => !settingNames.includes(name))).toEqual([]);
  });

  test("those of the replicas are accepted", () => {
    const { ADMIN_PORT, MIGRATE } = readConfig({ ...settingsOfReplicas });
    expect([ADMIN_PORT, MIGRATE]).toEqual([9090, "check"]);
  });

  test("who stops a replica waits as long as it may take", () => {
    const closingS = 20;
    const longestS = (settings: Record<string, string>) => {
      const { DRAIN_DELAY_MS, DRAIN_MS } = readConfig(settings);
      return (DRAIN_DELAY_MS + DRAIN_MS) / 1_000 + closingS;
    };
    expect(podSpec(deployment).terminationGracePeriodSeconds).toBeGreaterThanOrEqual(longestS(settingsOfReplicas));
    const { environment, stop_grace_period } = compose["coupon-service"] as { environment: Json } & Json;
    const { DRAIN_DELAY_MS = "0" } = environment as Record<string, string>;
    expect(Number.parseInt(stop_grace_period as string, 10)).toBeGreaterThanOrEqual(
      5 + longestS({ DRAIN_DELAY_MS }) - 5,
    );
  });

  test("no secret is in them: those come by files", () => {
    const secrets = settingNames.filter((name) => settingNames.includes(`${name}_FILE`));
    expect(secrets.length).toBeGreaterThan(2);
    // Of compose's Redis there is no password.
    expect(all.filter((name) => secrets.includes(name))).toEqual(["REDIS_URL"]);
  });
});

describe("ports", () => {
  const { GRPC_PORT, HTTP_PORT, ADMIN_PORT } = readConfig(settingsOfReplicas);
  const [container] = containersOf(deployment) as [{ ports: { name: string; containerPort: number }[] } & Json];
  const ports = new Map(container.ports.map(({ name, containerPort }) => [name, containerPort]));

  test("a replica's are those that it listens on", () => {
    expect(Object.fromEntries(ports)).toEqual({ grpc: GRPC_PORT, http: HTTP_PORT, admin: ADMIN_PORT });
  });

  test("services, probes and scrapes name ports that there are", () => {
    const named = [...ofKind("Service"), ...ofKind("ServiceMonitor"), deployment]
      .flatMap(objectsIn)
      .flatMap(({ targetPort, port }) => [targetPort, port])
      .filter((port) => typeof port === "string");
    expect(named.length).toBeGreaterThan(4);
    expect(named.filter((name) => !ports.has(name as string))).toEqual([]);
  });

  test("nobody but Prometheus gets to the one without authentication", () => {
    const [policy] = ofKind("NetworkPolicy") as [{ spec: { ingress: { from: Json[]; ports: { port: number }[] }[] } }];
    const { ingress } = policy.spec;
    const opened = ingress.filter(({ ports: open }) => open.some(({ port }) => port === ADMIN_PORT));
    expect(opened.map(({ from, ports: open }) => [JSON.stringify(from), open.length])).toEqual([
      ['[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"monitoring"}}}]', 1],
    ]);
    expect(ingress.every(({ from, ports: open }) => from.length > 0 && open.length > 0)).toBe(true);
    const others = ofKind("Service").filter((one) => (one.metadata as Json).name !== "coupon-service-admin");
    expect(others.flatMap(objectsIn).filter(({ targetPort }) => targetPort === "admin")).toEqual([]);
  });
});

describe("pods", () => {
  const workloads = [deployment, ...ofKind("Job")];

  test.for(workloads.map((one) => [one.kind as string, one] as const))("of the %s may do little", ([, workload]) => {
    const spec = podSpec(workload);
    expect(spec).toMatchObject({
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: "RuntimeDefault" } },
    });
    for (const container of containersOf(workload)) {
      expect(container).toMatchObject({
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ["ALL"] },
        },
        resources: {
          requests: { cpu: expect.anything(), memory: expect.anything() },
          limits: { memory: expect.anything() },
        },
      });
    }
  });

  test("live and are ready by different pages: a restart mends no Postgres", () => {
    const [container] = containersOf(deployment) as [Json];
    expect(container).toMatchObject({
      livenessProbe: { httpGet: { path: "/healthz", port: "admin" } },
      readinessProbe: { httpGet: { path: "/readyz", port: "admin" } },
      startupProbe: { grpc: { port: 50051 } },
    });
  });

  test("run as the user of the image, by its number", () => {
    expect(read("Dockerfile")).toMatch(/^USER 1000:1000$/m);
  });
});

describe("alerts", () => {
  interface Rule {
    readonly alert: string;
    readonly expr: string;
    readonly labels: { readonly severity: string };
    readonly annotations: { readonly summary: string; readonly runbook_url: string };
  }
  const [{ groups }] = documentsOf("deploy/prometheus/alerts.yml") as [{ groups: { rules: Rule[] }[] }];
  const rules = groups.flatMap((group) => group.rules);
  const operations = read("docs/operations.md");

  test.for(rules.map((rule) => [rule.alert, rule] as const))("%s says what to do", ([name, rule]) => {
    expect(rule.annotations.summary).not.toBe("");
    expect(["info", "warning", "critical"]).toContain(rule.labels.severity);
    expect(rule.annotations.runbook_url).toBe(`docs/operations.md#${name.toLowerCase()}`);
    const [, paragraph = ""] = operations.split(new RegExp(`^#+ ${name}$`, "m"));
    expect(paragraph.split(/^#/m, 1)[0], `to fix: give ${name} its paragraph`).toMatch(/\*\*Look\*\*[\s\S]*\*\*Do\*\*/);
  });

  test("each has a test", () => {
    const tests = read("deploy/prometheus/alerts.test.yml");
    expect(rules.filter(({ alert }) => !tests.includes(`alertname="${alert}"`)).map(({ alert }) => alert)).toEqual([]);
  });

  test("the Prometheus operator gets the same", () => {
    const [rule] = ofKind("PrometheusRule") as [{ spec: unknown }];
    expect(rule.spec, "to fix: copy the groups of alerts.yml into prometheus-rule.yaml").toEqual({ groups });
  });
});
