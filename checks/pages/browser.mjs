// Chromium, and what is asked of every page in it.
//
// In: the modules that npm installed, a page. Out: what is wrong with it, pictures. Never: another browser's profile.
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.SLIPWAY_PAGES_MODULES ?? process.cwd(), "x.js"));
const puppeteer = require("puppeteer-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

export const WIDTHS = { wide: 1280, phone: 390 };
export const THEMES = ["light", "dark"];

export function launch() {
  return puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-proxy-server"],
  });
}

/** Everything that reaches out of the window, is cut, or scrolls sideways. */
export function overflow(page) {
  return page.evaluate(() => {
    const wide = document.documentElement.clientWidth;
    const found = [];
    if (document.documentElement.scrollWidth > wide) found.push(`the page is ${document.documentElement.scrollWidth} wide, the window ${wide}`);
    for (const element of document.body.querySelectorAll("*")) {
      const style = getComputedStyle(element);
      if (element.closest(".hid,.skip,thead") && wide < 700) continue;
      if (element.closest(".hid,.skip") || style.display === "none" || style.visibility === "hidden") continue;
      const box = element.getBoundingClientRect();
      if (!box.width || !box.height) continue;
      const name = `${element.tagName.toLowerCase()}.${element.className} "${(element.textContent ?? "").trim().slice(0, 40)}"`;
      if (box.right > wide + 1 || box.left < -1) found.push(`${name} reaches from ${Math.round(box.left)} to ${Math.round(box.right)}`);
      if (element.scrollWidth > element.clientWidth + 1 && style.overflowX !== "visible" && element.clientWidth > 1) found.push(`${name} is cut: ${element.scrollWidth} in ${element.clientWidth}`);
    }
    return found;
  });
}

/** Words that lie over other words. */
export function overlaps(page) {
  return page.evaluate(() => {
    const texts = [];
    const walker = document.createTreeWalker(document.getElementById("main"), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      const parent = node.parentElement;
      if (!node.data.trim() || parent.closest(".hid,.skip,thead,details:not([open]),.scrolls,pre,.dot,.next") || getComputedStyle(parent).visibility === "hidden") continue;
      const range = document.createRange();
      range.selectNodeContents(node);
      for (const box of range.getClientRects()) if (box.width > 2) texts.push({ box, text: node.data.trim().slice(0, 40) });
    }
    const found = [];
    for (let a = 0; a < texts.length; a++) {
      for (let b = a + 1; b < texts.length; b++) {
        const [one, two] = [texts[a].box, texts[b].box];
        const x = Math.min(one.right, two.right) - Math.max(one.left, two.left);
        const y = Math.min(one.bottom, two.bottom) - Math.max(one.top, two.top);
        if (x > 2 && y > 5) found.push(`"${texts[a].text}" and "${texts[b].text}"`);
      }
    }
    return found;
  });
}

/** What axe has to say. */
export async function axe(page) {
  await page.evaluate(AXE);
  const result = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return result.violations.map((one) => `${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160) + " " + (node.any[0]?.message ?? "")).join(" | ")}`);
}

export async function themed(page, theme) {
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }]);
}

export async function sized(page, width) {
  await page.setViewport({ width: WIDTHS[width], height: width === "phone" ? 844 : 900, deviceScaleFactor: 1 });
}

/** Looks at a page in both themes and widths; all that is wrong with it. */
export async function judge(page, name, folder) {
  mkdirSync(folder, { recursive: true });
  const wrong = [];
  for (const theme of THEMES) {
    for (const width of Object.keys(WIDTHS)) {
      await themed(page, theme);
      await sized(page, width);
      const at = `${name}-${theme}-${width}`;
      await page.screenshot({ path: join(folder, `${at}.png`), fullPage: true });
      wrong.push(...(await overflow(page)).map((what) => `${at}: ${what}`));
      wrong.push(...(await overlaps(page)).map((what) => `${at}: over one another: ${what}`));
      wrong.push(...(await axe(page)).map((what) => `${at}: ${what}`));
    }
  }
  return wrong;
}
