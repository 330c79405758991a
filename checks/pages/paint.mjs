// How soon a page paints: `node paint.mjs ROUNDS`, with the one-time link and the page's address on standard input.
//
// In: two lines. Out: the milliseconds to the first contentful paint of each round as JSON, each with nothing kept of a page
// before it. Never: a link in an argument.
import { readFileSync } from "node:fs";
import { launch } from "./browser.mjs";

const [link, address] = readFileSync(0, "utf8").trim().split("\n");
const browser = await launch();
const page = await browser.newPage();
await page.setViewport({ width: 1280, height: 900 });
await page.goto(link, { waitUntil: "load" });
const took = [];
for (let round = -2; round < Number(process.argv[2]); round++) {
  await page.setCacheEnabled(false);
  await page.goto("about:blank");
  await page.goto(address, { waitUntil: "load" });
  const paint = await page.evaluate(() => new Promise((resolve) => {
    const find = (entries) => entries.find((entry) => entry.name === "first-contentful-paint")?.startTime;
    const known = find(performance.getEntriesByType("paint"));
    if (known) return resolve(known);
    new PerformanceObserver((list) => find(list.getEntries()) && resolve(find(list.getEntries()))).observe({ type: "paint", buffered: true });
  }));
  // The first two warm the browser up, as somebody's browser is.
  if (round >= 0) took.push(paint);
}
await browser.close();
console.log(JSON.stringify(took));
