// One Slipway for the tests of the pages: the real binary, repositories that push to it, users of its services.
//
// In: the binary, a scratch folder. Out: its addresses, pushes, commands, requests. Never: outlives the tests; a token in an
// argument.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
export const DEADLINE_MS = 45_000;

/** Looks again and again until there is something to see. */
export async function until(what, look, deadline = DEADLINE_MS) {
  const end = Date.now() + deadline;
  let last;
  for (;;) {
    try {
      const seen = await look();
      if (seen) return seen;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`${what}: did not happen${last ? ` (${last.message})` : ""}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export class World {
  static async start(binary) {
    const world = new World();
    world.binary = binary;
    world.dir = mkdtempSync(join(tmpdir(), "slipway-pages-"));
    world.data = join(world.dir, "data");
    world.server = join(world.dir, "server");
    const source = join(here, "../e2e/fixtures/server.c");
    const built = spawnSync("cc", ["-static", "-O1", "-s", "-pthread", "-o", world.server, source], { stdio: "inherit" });
    if (built.status !== 0) throw new Error("the fixture server does not compile");
    await world.up();
    return world;
  }

  /** Starts `up`, or starts it again on the same ports. */
  async up() {
    const ports = this.url ? [new URL(this.url).host, new URL(this.proxy).host] : ["127.0.0.1:0", "127.0.0.1:0"];
    const args = ["up", "--json", "--http", ports[0], "--proxy", ports[1], "--data", this.data];
    this.child = spawn(this.binary, args, { stdio: ["ignore", "pipe", "inherit"] });
    const lines = createInterface({ input: this.child.stdout });
    const [first] = await once(lines, "line");
    lines.on("line", () => {});
    this.ready = JSON.parse(first);
    this.url = this.ready.url;
    this.proxy = this.ready.proxy[0];
    this.token = readFileSync(this.ready.token_file, "utf8").trim();
  }

  async stop() {
    if (!this.child || this.child.exitCode !== null) return;
    this.child.kill("SIGINT");
    await once(this.child, "exit");
  }

  async end() {
    await this.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }

  api(path, method = "GET") {
    return new Promise((resolve, reject) => {
      const request = http.request(this.url + path, { method, headers: { authorization: `Bearer ${this.token}` } }, (answer) => {
        let text = "";
        answer.setEncoding("utf8");
        answer.on("data", (part) => (text += part));
        answer.on("end", () => (answer.statusCode === 200 ? resolve(JSON.parse(text)) : reject(new Error(`${path}: ${answer.statusCode} ${text}`))));
      });
      request.on("error", reject);
      request.end();
    });
  }

  /** A one-time link for a browser. */
  async link() {
    return (await this.api("/api/v1/login", "POST")).url;
  }

  repo(project) {
    return new Repo(this, project);
  }
}

/** A line to the server that can be cut and mended, always on the same port. */
export class Line {
  static async to(url) {
    const line = new Line();
    line.target = new URL(url);
    line.sockets = new Set();
    await line.mend();
    return line;
  }

  async mend() {
    this.server = net.createServer((near) => {
      const far = net.connect(Number(this.target.port), this.target.hostname);
      for (const socket of [near, far]) {
        this.sockets.add(socket);
        socket.on("close", () => this.sockets.delete(socket));
        socket.on("error", () => [near, far].forEach((one) => one.destroy()));
      }
      near.pipe(far).pipe(near);
    });
    this.server.listen(this.port ?? 0, "127.0.0.1");
    await once(this.server, "listening");
    this.port = this.server.address().port;
    this.url = `http://127.0.0.1:${this.port}`;
  }

  async cut() {
    const closed = once(this.server, "close");
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }
}

export class Repo {
  constructor(world, project) {
    this.world = world;
    this.project = project;
    this.root = join(world.dir, `repo-${project}`);
    mkdirSync(this.root, { recursive: true });
    this.git("init", "-q", "-b", "main");
    this.git("remote", "add", "slipway", `${world.url}/git/${project}.git`);
    this.write("world", world.dir);
  }

  env() {
    const basic = Buffer.from(`x:${this.world.token}`).toString("base64");
    return {
      ...process.env,
      GIT_CONFIG_GLOBAL: "/dev/null",
      GIT_CONFIG_SYSTEM: "/dev/null",
      GIT_CONFIG_COUNT: "3",
      GIT_CONFIG_KEY_0: "http.extraHeader",
      GIT_CONFIG_VALUE_0: `Authorization: Basic ${basic}`,
      GIT_CONFIG_KEY_1: "user.name",
      GIT_CONFIG_VALUE_1: "Kim",
      GIT_CONFIG_KEY_2: "user.email",
      GIT_CONFIG_VALUE_2: "kim@example.com",
    };
  }

  git(...args) {
    const said = spawnSync("git", args, { cwd: this.root, env: this.env(), encoding: "utf8" });
    if (said.status !== 0) throw new Error(`git ${args.join(" ")}: ${said.stderr}`);
    return said.stdout.trim();
  }

  write(path, text) {
    const file = join(this.root, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  }

  script(path, text) {
    this.write(path, `#!/bin/sh\nset -e\n${text}\n`);
    chmodSync(join(this.root, path), 0o755);
  }

  /** A service folder: the server, its behaviour, its image. */
  service(name, behaviour) {
    this.write(`${name}/behaviour`, `${behaviour}\n`);
    this.write(`${name}/Dockerfile`, 'FROM scratch\nCOPY server /server\nCOPY behaviour /behaviour\nENTRYPOINT ["/server"]\n');
    cpSync(this.world.server, join(this.root, name, "server"));
  }

  commit(subject) {
    this.git("add", "-A");
    this.git("commit", "-q", "--allow-empty", "-m", subject);
    return this.git("rev-parse", "HEAD");
  }

  /** Begins a push; `done` resolves with all that it said once everything is decided. */
  push(...args) {
    const child = spawn("git", ["push", ...(args.length ? args : ["slipway", "main"])], { cwd: this.root, env: this.env() });
    let text = "";
    child.stderr.on("data", (part) => (text += part));
    const late = setTimeout(() => child.kill("SIGINT"), DEADLINE_MS);
    const done = once(child, "exit").then(([code]) => {
      clearTimeout(late);
      if (code !== 0) throw new Error(`the push was refused: ${text}`);
      return text;
    });
    done.catch(() => {});
    return { done };
  }

  slipway(...args) {
    const env = { ...process.env, SLIPWAY_DATA: this.world.data, NO_COLOR: "1" };
    const said = spawnSync(this.world.binary, args, { cwd: this.root, env, encoding: "utf8" });
    return said.stdout + said.stderr;
  }

  status() {
    return this.world.api(`/api/v1/projects/${this.project}/status`);
  }

  async lane(environment, service) {
    const status = await this.status();
    return status.environments.find((one) => one.name === environment)?.services.find((one) => one.name === service);
  }

  phase(environment, service, phase) {
    return until(`${service} in ${environment} is ${phase}`, async () => (await this.lane(environment, service))?.phase === phase);
  }

  change(commit) {
    return this.world.api(`/api/v1/projects/${this.project}/changes/${commit}`);
  }

  /** Users of a service, until they are told to stop. */
  async users(environment, service, paths) {
    const lane = await this.lane(environment, service);
    const address = lane.addresses.find((one) => one.includes("127.0.0.1:"));
    const agent = new http.Agent({ keepAlive: true });
    let goes = true;
    const one = (path) => new Promise((resolve) => {
      const request = http.get(new URL(path, address), { agent }, (answer) => answer.resume().on("end", resolve));
      request.on("error", resolve);
    });
    const loop = (async () => {
      for (let n = 0; goes; n++) {
        await one(paths[n % paths.length]);
        await new Promise((resolve) => setTimeout(resolve, 8));
      }
      agent.destroy();
    })();
    return async () => {
      goes = false;
      await loop;
    };
  }
}
