// The pages in a browser, against the real binary: looks, live, keyboard, accessibility, a lost connection (PAGES.md).
//
// In: `node run.mjs BINARY FOLDER`. Out: pictures in the folder; 0 when everything holds. Never: a fixed port, a pause for its
// own sake.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { judge, launch, sized, themed } from "./browser.mjs";
import { Line, World, until } from "./world.mjs";

const [binary, folder] = process.env.SLIPWAY_PAGES.split("\n");
const HOSTILE = `<script>document.title="taken"</script><img src=x onerror=alert(1)>`;
let world, browser, page, api, shop;
const failures = [];

/** Every message of the console and every failed request is a failure: the policy forbids what is not ours. */
async function open(path, options = {}) {
  const opened = options.page ?? page;
  await opened.goto(world.url + path, { waitUntil: "load" });
  return opened;
}

async function fresh() {
  const context = await browser.createBrowserContext();
  const opened = await context.newPage();
  await opened.goto(await world.link(), { waitUntil: "load" });
  return opened;
}

const text = (of = page) => of.$eval("body", (body) => body.innerText);
const shows = (words, of = page) => until(`the page shows ${words}`, async () => (await text(of)).includes(words));

function files(repo, production) {
  const service = (name, jobs) => `  ${name}:\n    path: ${name}\n    port: 8080\n    health: /health\n    jobs:\n${jobs}`;
  repo.write("slipway.yaml",
    `project: ${repo.project}\nservices:\n` +
    service("api", "      test: { run: ./test.sh, network: off }\n") +
    service("web", "      test: { run: ./test.sh, network: off }\n      lint: { run: echo fine, network: off }\n") +
    `environments:\n${production}`);
  for (const name of ["api", "web"]) {
    repo.service(name, `version ${name}-1`);
    repo.script(`${name}/test.sh`, "echo fine");
  }
}

before(async () => {
  world = await World.start(binary);
  browser = await launch();
  page = await browser.newPage();
  page.on("pageerror", (error) => failures.push(`script: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error" && !/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE|ERR_EMPTY|status of 401|status of 404/.test(message.text())) failures.push(`console: ${message.text()}`);
  });
}, { timeout: 120_000 });

after(async () => {
  await browser?.close();
  await world?.end();
});

test("without a session there is only the way to sign in", async () => {
  await open("/");
  assert.match(await text(), /slipway open/);
  assert.deepEqual(await judge(page, "sign-in", folder), []);
});

test("an empty install shows the lines to copy and becomes the road when a push arrives", async () => {
  await page.goto(await world.link(), { waitUntil: "load" });
  await shows("git remote add slipway");
  await shows("live");
  assert.deepEqual(await judge(page, "empty", folder), []);
  await sized(page, "wide");
  api = world.repo("guestbook");
  files(api, "  production:\n    approve: { count: 1, author: true }\n    verify: { hold: 400ms, wait: 4s, bake: 200ms, requests: 20 }\n");
  api.commit("The first guestbook");
  const pushed = api.push();
  await Promise.race([shows("The first guestbook"), pushed.done]);
  await pushed.done;
  await shows("The first guestbook");
  await shows("approval");
  assert.deepEqual(await judge(page, "home-needs", folder), []);
});

// R075
test("a rollout is watched live until it bends back", async () => {
  const said = api.slipway("approve", "-y", api.git("rev-parse", "HEAD"));
  assert.doesNotMatch(said, /error:/);
  for (const name of ["api", "web"]) await api.phase("production", name, "succeeded");
  await sized(page, "wide");
  api.write("api/behaviour", "version api-2\nstatus /entries 500\n");
  api.write("web/behaviour", "version web-1\n");
  const commit = api.commit("Cache the list of entries");
  const pushed = api.push();
  await until("the change is there", async () => (await api.change(commit)).state);
  await open(`/p/guestbook/c/${commit.slice(0, 7)}`);
  const loaded = await page.evaluate(() => (window.mark = "the same page"));
  await shows("Waits for");
  await pushed.done;
  assert.deepEqual(await judge(page, "commit-waiting", folder), []);
  await sized(page, "wide");
  const stop = await api.users("production", "api", ["/", "/entries"]);
  api.slipway("approve", "-y", commit);
  const seen = [];
  await until("the page bends back", async () => {
    const pill = await page.$eval(".verdict .pill", (pill) => pill.innerText);
    if (seen.at(-1) !== pill) seen.push(pill);
    return (await page.$(".bend")) && /rolled back/.test(pill);
  });
  await stop();
  assert.equal(await page.evaluate(() => window.mark), loaded, "it was not loaded anew");
  assert.ok(seen.some((pill) => /running/.test(pill)), seen.join(", "));
  await api.phase("production", "api", "rolled-back");
  await shows("r1 serves production");
  await shows("Evidence, kept before anything was stopped");
  assert.deepEqual(await judge(page, "commit-rolled-back", folder), []);
  // What serves is well, whatever became of the attempt.
  await open("/p/guestbook/e/production");
  const row = await page.$$eval("table.services tbody tr", (rows) => rows.map((row) => row.innerText));
  assert.match(row[0], /✓ r1/);
  assert.doesNotMatch(row[0], /rolled back/);
  await open("/p/guestbook/s/api");
  await shows("was taken back");
});

// R066
test("a failed job shows its first error on top, and its log is safe and in colour", async () => {
  shop = world.repo("shop");
  files(shop, "  staging:\n    verify: { hold: 100ms, bake: 100ms }\n  production:\n    after: [staging]\n    approve: { count: 1, author: true }\n    verify: { hold: 100ms, bake: 100ms }\n");
  shop.script("web/test.sh", `printf '\\033[1;32mok\\033[0m adds\\n'; echo 'plain ${HOSTILE}'; printf '\\033]0;title\\007\\033[31merror: total is 41, not 42 ${HOSTILE}\\033[0m\\n'; exit 3`);
  const commit = shop.commit(`Totals ${HOSTILE}`);
  await shop.push("-o", "ci.detach", "slipway", "main").done;
  await until("the job failed", async () => (await shop.change(commit)).jobs.some((job) => job.result === "failed"));
  await open(`/p/shop/c/${commit}`);
  await shows("error: total is 41, not 42");
  assert.match(await text(), /slipway run web\/test/);
  assert.deepEqual(await judge(page, "commit-failed", folder), []);
  await sized(page, "wide");
  await page.click('a[href$="/job/web/test"]');
  await shows("The first error");
  assert.match(await page.$eval("pre.log", (log) => log.innerHTML), /class="a2 ab"|class="ab a2"/);
  assert.equal(await page.$("main img, main script"), null, "what a log says is no HTML");
  assert.doesNotMatch(await page.title(), /taken/);
  assert.deepEqual(await judge(page, "job-failed", folder), []);
});

test("a job's log comes live, line by line", async () => {
  shop.script("web/test.sh", "for n in $(seq 1 40); do printf 'line %s \\033[33mof 40\\033[0m\\n' $n; sleep 0.1; done");
  const commit = shop.commit("Count to forty");
  const pushed = shop.push();
  await until("the job runs", async () => (await shop.change(commit)).jobs.some((job) => job.name === "web/test" && job.result === "running"));
  await sized(page, "wide");
  await open(`/p/shop/c/${commit}/job/web/test`);
  await shows("running");
  await shows("line 10 of 40");
  assert.doesNotMatch(await text(), /line 40 of 40/, "it is not over yet");
  await shows("line 40 of 40");
  await until("it says that it passed", async () => /passed/.test(await page.$eval(".verdict", (line) => line.innerText)));
  const numbers = await page.$$eval("pre.lines .l a", (all) => all.map((one) => Number(one.textContent)));
  assert.deepEqual(numbers, numbers.map((_, index) => index + 1), "no line twice, none left out");
  await pushed.done;
});

test("every page holds in both themes and widths", async () => {
  await shop.phase("staging", "web", "succeeded");
  const wrong = [];
  for (const [name, path] of [["home", "/"], ["project", "/p/shop"], ["environment", "/p/guestbook/e/production"], ["service", "/p/guestbook/s/api"], ["history", "/p/guestbook/history"], ["not-found", "/p/nothing"]]) {
    await open(path);
    if (name !== "not-found") await shows("live");
    wrong.push(...(await judge(page, name, folder)));
  }
  assert.deepEqual(wrong, []);
});

// R384
test("history is found by filter and search, with and without scripts", async () => {
  for (const scripts of [true, false]) {
    await page.setJavaScriptEnabled(scripts);
    await sized(page, "wide");
    await open("/p/guestbook/history?search=rolled+back");
    const rows = await page.$$eval("table.history tbody tr", (rows) => rows.map((row) => row.innerText));
    assert.equal(rows.length, 1);
    assert.match(rows[0], /api r2[\s\S]*was taken back/);
    await page.select("#h-service", "web");
    await page.click("#history form button");
    await shows("Nothing that was deployed is like that");
  }
  await page.setJavaScriptEnabled(true);
});

// R306
test("logs, metrics, health and events of a service stand side by side", async () => {
  await sized(page, "wide");
  await open("/p/guestbook/s/api?env=production");
  const boxes = await page.$$eval("#metrics,#health,#events,#log-panel", (all) => all.map((one) => ({ id: one.id, text: one.innerText, x: one.getBoundingClientRect().x, y: one.getBoundingClientRect().y })));
  assert.deepEqual(boxes.map((one) => one.id), ["metrics", "health", "events", "log-panel"]);
  assert.ok(boxes[0].y === boxes[1].y && boxes[0].x < boxes[1].x && boxes[2].y === boxes[3].y);
  assert.match(boxes[0].text, /r1[\s\S]*100 %/);
  assert.match(boxes[1].text, /r1[\s\S]*ready/);
  assert.match(boxes[2].text, /was taken back r2/);
  assert.match(boxes[3].text, /r1 listening on :8080/);
});

test("without scripts every page can be read", async () => {
  await page.setJavaScriptEnabled(false);
  for (const [path, words] of [["/", "Needs you"], ["/p/guestbook/c/main", "The road"], ["/p/guestbook/s/api", "Health"], ["/p/guestbook/c/main/job/api/test", "fine"]]) {
    await open(path);
    assert.ok((await text()).includes(words), `${path}: ${words}`);
  }
  await page.setJavaScriptEnabled(true);
});

test("light and dark are by preference, and by a switch that works without scripts", async () => {
  const paper = () => page.$eval("body", (body) => getComputedStyle(body).backgroundColor);
  await page.setJavaScriptEnabled(false);
  await open("/");
  await themed(page, "light");
  const light = await paper();
  await themed(page, "dark");
  const dark = await paper();
  assert.notEqual(light, dark);
  await page.click(".theme button[value=light]");
  await until("the theme is light", () => page.$("html[data-theme=light]"));
  assert.equal(await paper(), light);
  await page.click(".theme button[value=auto]");
  await until("the theme is auto", () => page.$("html[data-theme=auto]"));
  await page.setJavaScriptEnabled(true);
});

test("everything is reached by the keyboard, in order, with a focus that is seen", async () => {
  await sized(page, "wide");
  await open("/p/guestbook");
  await shows("live");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip", "first comes the skip link");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await open("/p/guestbook");
  const reached = [];
  for (let n = 0; n < 200; n++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const active = document.activeElement;
      if (active === document.body) return null;
      const style = getComputedStyle(active);
      const box = active.getBoundingClientRect();
      const all = [...document.querySelectorAll("*")];
      return { order: all.indexOf(active), seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2, inside: box.right > 0 && box.bottom > 0 && box.top < innerHeight, name: active.outerHTML.slice(0, 90) };
    });
    if (!at) break;
    reached.push(at);
  }
  const can = await page.$$eval("a[href],button,input:not([type=hidden]),select,summary,[tabindex='0']", (all) => all.filter((one) => one.checkVisibility()).length);
  assert.ok(reached.length >= can, `${reached.length} of ${can} are reached`);
  for (const [index, at] of reached.entries()) {
    assert.ok(at.seen && at.inside, `the focus is not seen on ${at.name}`);
    if (index) assert.ok(at.order > reached[index - 1].order, `out of order: ${at.name}`);
  }
});

test("a lost connection is said at once, and what was missed comes when it is found again", async () => {
  await sized(page, "wide");
  const line = await Line.to(world.url);
  await page.goto(`${line.url}/p/guestbook`, { waitUntil: "load" });
  await shows("● live");
  const loaded = await page.evaluate(() => (window.mark = "the same page"));
  await line.cut();
  await shows("Connection lost");
  await shows("not live");
  assert.ok(await page.$("body.stale"));
  await page.screenshot({ path: `${folder}/lost-light-wide.png` });
  api.write("web/behaviour", "version web-3\n");
  api.commit("Pushed while nobody could see it");
  await api.push().done;
  assert.doesNotMatch(await text(), /Pushed while nobody could see it/);
  await line.mend();
  await until("it is live again", async () => (await page.$("#lost[hidden]")) && !(await page.$("body.stale")));
  assert.match(await text(), /Pushed while nobody could see it/, "never said to be live before it is");
  assert.equal(await page.evaluate(() => window.mark), loaded);
  await line.cut();
});

test("a machine that hangs is noticed without an error of the connection", async () => {
  const other = await fresh();
  await open("/p/guestbook", { page: other });
  await shows("● live", other);
  process.kill(world.ready.server_pid, 0);
  const serve = await until("the control plane has a process", async () => world.ready.server_pid);
  process.kill(serve, "SIGSTOP");
  try {
    await shows("Connection lost", other);
  } finally {
    process.kill(serve, "SIGCONT");
  }
  await until("it is live again", async () => other.$("#lost[hidden]"));
  await other.browserContext().close();
});

test("a worker that is away is said on the page that is open, and that it is back", async () => {
  await open("/");
  await shows("● live");
  const up = world.child.pid;
  process.kill(up, "SIGSTOP");
  process.kill(world.ready.worker_pid, "SIGKILL");
  try {
    await shows("The worker is not connected");
    assert.match(await text(), /Services keep serving/);
    assert.deepEqual(await judge(page, "banner", folder), []);
  } finally {
    process.kill(up, "SIGCONT");
  }
  await until("it is back", async () => !(await text()).includes("The worker is not connected"));
});

test("a server that was started anew knows no session, which the page says instead of showing what is old", async () => {
  await open("/p/guestbook");
  await shows("● live");
  await world.stop();
  await shows("Connection lost");
  await world.up();
  await shows("You are signed out");
});

test("nothing failed in the browser meanwhile", () => {
  assert.deepEqual(failures, []);
});
